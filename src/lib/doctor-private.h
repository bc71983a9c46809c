/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the files of the doctor: doctor.c (the object; in which order it looks), doctor-find.c (findings and
 * their documents), doctor-disks.c (graph, headers and journal side by side), doctor-vm.c (what is left in a
 * QEMU), doctor-ops.c (operations and records), doctor-lvm.c (logical volumes), doctor-files.c (directories),
 * doctor-host.c.
 *
 * A finding says what is wrong, shows its evidence, and names its cure. A cure is performed by --repair only
 * where what it takes away is provably ours: the journal has the operation that made it, that operation has
 * ended, and nobody uses it. */
#pragma once

#include "jobs/chain.h"
#include "jobs/records.h"
#include "src/lib/lib-private.h"
#include "src/storage/users.h"

/* One disk, as its three witnesses tell it; each is nullable. */
typedef struct {
  char *name;
  ChainDisk *graph;  /* borrowed from the world */
  GPtrArray *layers; /* ChainLayer*: as the headers have them, from the active file down */
  char *unreadable;  /* why they could not be read in full */
  char **journal;    /* what the last operation on it left */
  char *operation;   /* that one */
  gboolean busy;     /* an operation on it has not ended, or a job is at work */
} ExamDisk;

typedef struct {
  const char *name, *address, *agent; /* agent is nullable */
  RechainVm *vm;
  World *world;      /* borrowed; NULL: it is off, or cannot be looked at */
  GError *error;     /* why */
  gboolean off;      /* nobody listens */
  gboolean frozen;   /* says its agent */
  GPtrArray *disks;  /* ExamDisk* */
  gboolean wanted;   /* findings about it are */
} ExamVm;

typedef enum { FOUND_NOTE, FOUND_WARNING, FOUND_ERROR } Severity;

/* What --repair may do: one of op-repair.h's cures. */
typedef struct {
  ExamVm *vm; /* NULL: it needs none */
  char *name, *cure;
  char *job, *export, *socket; /* nullable */
  Json *details;               /* nullable */
} Cure;

typedef struct {
  RechainController *controller;
  const char *state_dir;
  Journal *journal;  /* nullable: there is none */
  GPtrArray *open;   /* Op*: those that have not ended */
  GPtrArray *records;
  GPtrArray *vms;    /* ExamVm* */
  char **dirs;       /* that are looked through for files; nullable */
  gboolean all;      /* not one VM only */
  GHashTable *used;  /* FileId keys of files that somebody refers to */
  OpenFiles *files;
  Json *lvs;         /* rows of lvm_lvs(); nullable: there is no LVM */
  Json *findings;
  GPtrArray *cures;  /* Cure* */
} Exam;

/* ---- findings ------------------------------------------------------------------------------------ */

/* Borrowed. @kind is one word. @vm, @disk: nullable. */
Json *exam_find (Exam *exam, Severity severity, const char *kind, ExamVm *vm, const char *disk,
                 const char *format, ...) G_GNUC_PRINTF (6, 7);
Json *exam_sorted (Exam *exam);
void finding_shows (Json *finding, const char *format, ...) G_GNUC_PRINTF (2, 3);
/* @command: what can be pasted into a shell; nullable. */
void finding_cure (Json *finding, const char *command, const char *format, ...) G_GNUC_PRINTF (3, 4);
/* --repair cures it. Takes @details. Borrowed. */
Cure *finding_repair (Exam *exam, Json *finding, ExamVm *vm, const char *name, const char *cure,
                      Json *take_details);
/* "rechain VERB 'word' ...", full; NULL at the end. */
char *shell_words (const char *first, ...) G_GNUC_NULL_TERMINATED;
char *repair_command (ExamVm *vm); /* full; @vm nullable */

/* ---- who is who ---------------------------------------------------------------------------------- */

/* "rc-0123abcd-...": the id in it, full; else NULL. */
char *id_of_name (const char *name);
/* Full, nullable: the operation, where this journal has it. */
Op *exam_op (Exam *exam, const char *id);
/* It has ended, so that nothing of it may be left. */
gboolean op_has_ended (const Op *op);
/* Its process is @vm's. */
gboolean op_ran_on (const Op *op, ExamVm *vm);
/* Borrowed, nullable: the layer of a VM that was asked for; *ret_vm: whose. */
ChainLayer *exam_find_layer (Exam *exam, const char *file, ExamVm **ret_vm);
ExamVm *exam_vm_at (Exam *exam, const char *address); /* borrowed, nullable */
/* Findings about the VM at @address are asked for. */
gboolean exam_wants (Exam *exam, const char *address);
gboolean exam_is_alive (Exam *exam, const char *id);
void exam_use (Exam *exam, const char *file);
gboolean exam_is_used (Exam *exam, const char *file);

/* ---- the examinations, in this order --------------------------------------------------------------- */

void exam_disks (Exam *exam);      /* first: fills the disks of all VMs; finds what is wrong with their chains */
void exam_vm (Exam *exam, ExamVm *vm);
void exam_operations (Exam *exam);
void exam_records (Exam *exam);
void exam_volumes (Exam *exam);
/* Full: what makes the logical volume @path a device again; NULL: it is none, or active. */
char *exam_activation (Exam *exam, const char *path);
void exam_files (Exam *exam);
void exam_host (Exam *exam);
Json *exam_disk_to_json (ExamDisk *disk);
Json *host_to_json (void);
void exam_disk_free (gpointer disk);
