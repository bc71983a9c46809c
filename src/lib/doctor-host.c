/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What rechain needs of this host. */
#include "src/lib/doctor-private.h"

#include "src/common/size.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LEAST_FREE (16u << 20) /* bytes for the journal */

/* What is wrong without it, and where it comes from. */
/* clang-format off */
static const struct {
  const char *program, *variable; /* that names another one */
  const char *package, *needed_for;
  gboolean is_finding; /* else it is only listed */
  Severity severity;
} programs[] = {
    {"qemu-img", "RECHAIN_QEMU_IMG", "qemu-utils", "every change of a disk", TRUE, FOUND_ERROR},
    {"qemu-storage-daemon", "RECHAIN_QEMU_STORAGE_DAEMON", "qemu-system-common", "pull, commit, merge and allocate --offline", TRUE, FOUND_WARNING},
    {"lvm", NULL, "lvm2", "logical volumes", FALSE, FOUND_NOTE},
    {"zstd", NULL, "zstd", "archives (zstd)", FALSE, FOUND_NOTE},
    {"gzip", NULL, "gzip", "archives (gzip)", FALSE, FOUND_NOTE},
    {"xz", NULL, "xz-utils", "archives (xz)", FALSE, FOUND_NOTE},
    {"lz4", NULL, "lz4", "archives (lz4)", FALSE, FOUND_NOTE},
    {"lzop", NULL, "lzop", "archives (lzop)", FALSE, FOUND_NOTE},
    {"resize2fs", NULL, "e2fsprogs", "resizing ext4", FALSE, FOUND_NOTE},
    {"xfs_growfs", NULL, "xfsprogs", "resizing xfs", FALSE, FOUND_NOTE},
    {"btrfs", NULL, "btrfs-progs", "resizing btrfs", FALSE, FOUND_NOTE},
    {"ssh", NULL, "openssh-client", "other hosts", FALSE, FOUND_NOTE},
};
/* clang-format on */

/* Full, nullable. */
static char *
find_program (gsize i)
{
  const char *named = programs[i].variable ? g_getenv (programs[i].variable) : NULL;
  return g_find_program_in_path (named && *named ? named : programs[i].program);
}

Json *
host_to_json (void)
{
  Json *list = json_array ();
  for (gsize i = 0; i < G_N_ELEMENTS (programs); i++) {
    g_autofree char *path = find_program (i);
    json_append (list, json_make ("program", json_str (programs[i].program), "path",
                                  json_str (path), "package", json_str (programs[i].package),
                                  "needed-for", json_str (programs[i].needed_for), NULL));
  }
  return list;
}

static void
exam_programs (Exam *exam)
{
  for (gsize i = 0; i < G_N_ELEMENTS (programs); i++) {
    g_autofree char *path = find_program (i);
    g_autofree char *command = shell_words ("apt", "install", programs[i].package, NULL);
    if (!programs[i].is_finding || path != NULL)
      continue;
    Json *finding = exam_find (exam, programs[i].severity, "program", NULL, NULL,
                               "the program '%s' is missing", programs[i].program);
    finding_shows (finding, "it is needed for %s", programs[i].needed_for);
    finding_cure (finding, command, "install it");
  }
}

static void
exam_state_dir (Exam *exam)
{
  struct stat st;
  struct statvfs vfs;
  const char *dir = exam->state_dir;
  if (stat (dir, &st) != 0)
    return; /* nothing was changed yet; it is made then */
  if (access (dir, W_OK) != 0) {
    Json *finding = exam_find (exam, FOUND_ERROR, "state-directory", NULL, NULL,
                               "the state directory '%s' cannot be written", dir);
    finding_shows (finding, "its owner is user %u, and we are user %u", (guint)st.st_uid,
                   (guint)geteuid ());
    finding_cure (finding, NULL, "run as its owner, or name another one with --state-dir");
  } else if (st.st_mode & (S_IWGRP | S_IWOTH)) {
    g_autofree char *command = shell_words ("chmod", "go-w", dir, NULL);
    Json *finding = exam_find (exam, FOUND_ERROR, "state-directory", NULL, NULL,
                               "others can write to the state directory '%s'", dir);
    finding_shows (finding, "its mode is %04o", (guint)st.st_mode & 07777);
    finding_shows (finding, "who can change the journal decides what recovery does to disks");
    finding_cure (finding, command, "take that away");
  }
  if (statvfs (dir, &vfs) == 0 && (guint64)vfs.f_bavail * vfs.f_frsize < LEAST_FREE) {
    g_autofree char *left = format_size ((guint64)vfs.f_bavail * vfs.f_frsize);
    Json *finding = exam_find (exam, FOUND_WARNING, "space", NULL, NULL,
                               "there is hardly any space left for the journal in '%s'", dir);
    finding_shows (finding, "%s are free", left);
    finding_cure (finding, NULL, "make room: nothing is done that cannot be recorded");
  }
}

static void
exam_journal (Exam *exam)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Journal) journal = journal_open_to_read (exam->state_dir, &error);
  if (journal != NULL)
    journal_check (journal, &error);
  if (error == NULL)
    return;
  const char *cause = rechain_error_get_cause (error), *advice = rechain_error_get_hint (error);
  Json *finding = exam_find (exam, FOUND_ERROR, "journal", NULL, NULL, "%s", error->message);
  if (cause != NULL)
    finding_shows (finding, "%s", cause);
  finding_cure (finding, NULL, "%s", advice ? advice : "keep a copy of it, and ask for help");
}

static void
exam_allowed (Exam *exam)
{
  for (char **dir = exam->dirs; exam->all && dir != NULL && *dir != NULL; dir++) {
    if (g_file_test (*dir, G_FILE_TEST_IS_DIR))
      continue;
    Json *finding = exam_find (exam, FOUND_WARNING, "configuration", NULL, NULL,
                               "the configuration allows '%s', which is no directory", *dir);
    finding_cure (finding, NULL, "make or mount it, or take it out of [storage] allow");
  }
}

void
exam_host (Exam *exam)
{
  exam_programs (exam);
  exam_state_dir (exam);
  exam_journal (exam);
  exam_allowed (exam);
}
