/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/lib/doctor-private.h"

#include "src/common/process.h"

#include <string.h>
#include <sys/stat.h>

static const char *const severities[] = {
    [FOUND_NOTE] = "note", [FOUND_WARNING] = "warning", [FOUND_ERROR] = "error"};

Json *
exam_find (Exam *exam, Severity severity, const char *kind, ExamVm *vm, const char *disk,
           const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  Json *finding =
      json_make ("severity", json_str (severities[severity]), "kind", json_str (kind), "vm",
                 vm ? json_str (vm->name) : NULL, "disk", json_str (disk), "what", json_str (what),
                 "evidence", json_array (), "repairable", json_flag (FALSE), NULL);
  json_append (exam->findings, finding);
  return finding;
}

/* The worst first, else in the order of the examination; full. */
Json *
exam_sorted (Exam *exam)
{
  Json *sorted = json_array ();
  for (guint s = G_N_ELEMENTS (severities); s-- > 0;)
    for (gsize i = 0; i < json_length (exam->findings); i++)
      if (g_str_equal (json_get_str (json_at (exam->findings, i), "severity"), severities[s]))
        json_append (sorted, json_dup (json_at (exam->findings, i)));
  return sorted;
}

void
finding_shows (Json *finding, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  json_append (json_get (finding, "evidence"), json_str (text));
}

void
finding_cure (Json *finding, const char *command, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *says = g_strdup_vprintf (format, args);
  va_end (args);
  json_set (finding, "cure",
            json_make ("says", json_str (says), "command", json_str (command), NULL));
}

Cure *
finding_repair (Exam *exam, Json *finding, ExamVm *vm, const char *name, const char *cure,
                Json *take_details)
{
  Cure *added = g_new0 (Cure, 1);
  *added =
      (Cure){.vm = vm, .name = g_strdup (name), .cure = g_strdup (cure), .details = take_details};
  g_ptr_array_add (exam->cures, added);
  json_set (finding, "repairable", json_flag (TRUE));
  return added;
}

/* ---- shell ----------------------------------------------------------------------------------- */

static void
add_word (GString *line, const char *word)
{
  gboolean bare =
      *word && strspn (word, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "/._-+:=@,") == strlen (word);
  g_autofree char *quoted = bare ? g_strdup (word) : g_shell_quote (word);
  g_string_append_printf (line, "%s%s", line->len ? " " : "", quoted);
}

char *
shell_words (const char *first, ...)
{
  GString *line = g_string_new (NULL);
  va_list args;
  va_start (args, first);
  for (const char *word = first; word != NULL; word = va_arg (args, const char *))
    add_word (line, word);
  va_end (args);
  return g_string_free (line, FALSE);
}

char *
repair_command (ExamVm *vm)
{
  return vm ? shell_words ("rechain", "doctor", vm->name, "--repair", NULL)
            : shell_words ("rechain", "doctor", "--repair", NULL);
}

/* ---- who is who ------------------------------------------------------------------------------ */

char *
id_of_name (const char *name)
{
  const char *id = name && g_str_has_prefix (name, "rc-") ? name + strlen ("rc-") : NULL;
  return id && strspn (id, "0123456789abcdef") == 8 && id[8] == '-' ? g_strndup (id, 8) : NULL;
}

Op *
exam_op (Exam *exam, const char *id)
{
  return exam->journal && id ? journal_load (exam->journal, id, NULL) : NULL;
}

gboolean
op_has_ended (const Op *op)
{
  return op != NULL && op_state_is_end (op->state);
}

gboolean
op_ran_on (const Op *op, ExamVm *vm)
{
  VmLink *link = rechain_vm_get_link (vm->vm);
  pid_t pid = link->client ? qmp_client_get_peer_pid (link->client) : 0;
  return g_strcmp0 (op->vm, vm->address) == 0 && op->qemu_pid == pid &&
         process_start_time (pid) == op->qemu_start;
}

ExamVm *
exam_vm_at (Exam *exam, const char *address)
{
  for (guint i = 0; i < exam->vms->len; i++)
    if (g_strcmp0 (((ExamVm *)exam->vms->pdata[i])->address, address) == 0)
      return exam->vms->pdata[i];
  return NULL;
}

gboolean
exam_wants (Exam *exam, const char *address)
{
  ExamVm *vm = exam_vm_at (exam, address);
  return vm ? vm->wanted : exam->all;
}

static ChainLayer *
find_layer_of (ExamVm *vm, const char *file)
{
  for (guint i = 0; vm->wanted && i < vm->disks->len; i++) {
    ExamDisk *disk = vm->disks->pdata[i];
    GPtrArray *layers = disk->graph ? disk->graph->layers : disk->layers;
    for (guint k = 0; layers != NULL && k < layers->len; k++)
      if (path_same_file (((ChainLayer *)layers->pdata[k])->file, file))
        return layers->pdata[k];
  }
  return NULL;
}

ChainLayer *
exam_find_layer (Exam *exam, const char *file, ExamVm **ret_vm)
{
  ChainLayer *layer = NULL;
  for (guint i = 0; layer == NULL && i < exam->vms->len; i++) {
    *ret_vm = exam->vms->pdata[i];
    layer = find_layer_of (*ret_vm, file);
  }
  return layer;
}

gboolean
exam_is_alive (Exam *exam, const char *id)
{
  return exam->journal && journal_owner (exam->journal, id, NULL) == OWNER_ALIVE;
}

/* A file is known by what it is, not by its name; one that is not there is referred to
 * by nobody. */
static char *
key_of (const char *file)
{
  struct stat st;
  if (file == NULL || file[0] != '/' || stat (file, &st) != 0)
    return NULL;
  return g_strdup_printf ("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (guint64)st.st_dev,
                          (guint64)st.st_ino);
}

void
exam_use (Exam *exam, const char *file)
{
  char *key = key_of (file);
  if (key != NULL)
    g_hash_table_add (exam->used, key);
}

gboolean
exam_is_used (Exam *exam, const char *file)
{
  g_autofree char *key = key_of (file);
  return key != NULL && g_hash_table_contains (exam->used, key);
}
