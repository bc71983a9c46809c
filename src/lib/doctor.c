/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The doctor: looks at all VMs that it knows (what one of them uses is no orphan of another), then
 * examines what was asked for, in one go. It changes nothing; its repairs are operations like
 * others. */
#include "src/lib/doctor-private.h"

#include "jobs/lvm.h"
#include "jobs/op-repair.h"
#include "qmp/agent.h"

#include <errno.h>

#define AGENT_MS 1000u /* one that does not answer keeps nobody waiting */

typedef struct {
  char *name, *address, *agent;
} Known;

struct _RechainDoctor {
  GObject parent;
  RechainController *controller;
  GPtrArray *known; /* Known* */
  char **dirs;
  Exam *exam; /* the last one */
};

G_DEFINE_FINAL_TYPE (RechainDoctor, rechain_doctor, G_TYPE_OBJECT)

/* ---- an examination -------------------------------------------------------------------------- */

static void
cure_free (gpointer data)
{
  Cure *cure = data;
  char *strings[] = {cure->name, cure->cure, cure->job, cure->export, cure->socket};
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  json_object_put (cure->details);
  g_free (cure);
}

static void
exam_vm_free (gpointer data)
{
  ExamVm *vm = data;
  g_clear_error (&vm->error);
  g_clear_object (&vm->vm);
  g_ptr_array_unref (vm->disks);
  g_free (vm);
}

static void
free_op (gpointer op)
{
  op_free (op);
}

static void
exam_free (Exam *exam)
{
  g_clear_pointer (&exam->journal, journal_close);
  g_clear_pointer (&exam->records, g_ptr_array_unref);
  g_clear_pointer (&exam->files, open_files_free);
  g_ptr_array_unref (exam->open);
  g_ptr_array_unref (exam->vms);
  g_ptr_array_unref (exam->cures);
  g_hash_table_unref (exam->used);
  json_object_put (exam->findings);
  json_object_put (exam->lvs);
  g_free (exam);
}

static Exam *
exam_new (RechainDoctor *doctor)
{
  Exam *exam = g_new0 (Exam, 1);
  exam->controller = doctor->controller;
  exam->state_dir = rechain_controller_get_state_dir (doctor->controller);
  exam->dirs = doctor->dirs;
  exam->open = g_ptr_array_new_with_free_func (free_op);
  exam->vms = g_ptr_array_new_with_free_func (exam_vm_free);
  exam->cures = g_ptr_array_new_with_free_func (cure_free);
  exam->used = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  exam->findings = json_array ();
  return exam;
}

static void
open_journal (Exam *exam)
{
  exam->journal = journal_open_to_read (exam->state_dir, NULL); /* exam_host() says what is wrong */
  exam->records = records_list (exam->journal, NULL, NULL);
  g_auto (GStrv) ids = exam->journal ? journal_list (exam->journal, TRUE, NULL, NULL) : NULL;
  for (char **id = ids; id != NULL && *id != NULL; id++) {
    Op *op = exam_op (exam, *id);
    if (op != NULL)
      g_ptr_array_add (exam->open, op);
  }
}

/* ---- the object ------------------------------------------------------------------------------ */

static void
known_free (gpointer data)
{
  Known *known = data;
  g_free (known->name);
  g_free (known->address);
  g_free (known->agent);
  g_free (known);
}

static void
rechain_doctor_finalize (GObject *object)
{
  RechainDoctor *doctor = RECHAIN_DOCTOR (object);
  g_clear_pointer (&doctor->exam, exam_free);
  g_ptr_array_unref (doctor->known);
  g_strfreev (doctor->dirs);
  g_clear_object (&doctor->controller);
  G_OBJECT_CLASS (rechain_doctor_parent_class)->finalize (object);
}

static void
rechain_doctor_class_init (RechainDoctorClass *class)
{
  G_OBJECT_CLASS (class)->finalize = rechain_doctor_finalize;
}

static void
rechain_doctor_init (RechainDoctor *doctor)
{
  doctor->known = g_ptr_array_new_with_free_func (known_free);
}

RechainDoctor *
rechain_doctor_new (RechainController *controller)
{
  RechainDoctor *doctor = g_object_new (RECHAIN_TYPE_DOCTOR, NULL);
  doctor->controller = g_object_ref (controller);
  return doctor;
}

void
rechain_doctor_set_directories (RechainDoctor *doctor, const char *const *directories)
{
  g_strfreev (doctor->dirs);
  doctor->dirs = g_strdupv ((char **)directories);
}

gboolean
rechain_doctor_add_vm (RechainDoctor *doctor, const char *name, const char *address,
                       const char *agent, GError **error)
{
  g_autoptr (RechainVm) vm = rechain_vm_new (doctor->controller, address, error);
  if (vm == NULL)
    return FALSE;
  Known *known = g_new0 (Known, 1);
  *known = (Known){.name = g_strdup (name),
                   .address = g_strdup (rechain_vm_get_address (vm)),
                   .agent = agent ? rechain_vm_normalize_address (agent) : NULL};
  g_ptr_array_add (doctor->known, known);
  return TRUE;
}

/* ---- the document ---------------------------------------------------------------------------- */

static Json *
vm_to_json (ExamVm *vm)
{
  VmLink *link = rechain_vm_get_link (vm->vm);
  Json *disks = json_array ();
  for (guint i = 0; i < vm->disks->len; i++)
    json_append (disks, exam_disk_to_json (vm->disks->pdata[i]));
  const char *state = vm->world ? "running" : vm->off ? "off" : "unreachable";
  return json_make ("vm", json_str (vm->name), "address", json_str (vm->address), "state",
                    json_str (state), "run-state",
                    vm->world ? json_str (world_run_state (vm->world)) : NULL, "qemu",
                    vm->world ? json_str (qmp_client_get_version_string (link->client)) : NULL,
                    "borrowed-from", json_str (link->borrowed_from), "disks", disks, NULL);
}

static char *
document (Exam *exam)
{
  Json *vms = json_array ();
  for (guint i = 0; i < exam->vms->len; i++)
    if (((ExamVm *)exam->vms->pdata[i])->wanted)
      json_append (vms, vm_to_json (exam->vms->pdata[i]));
  return print_document (json_make ("schema", json_str ("rechain.doctor/1"), "state-dir",
                                    json_str (exam->state_dir), "programs", host_to_json (), "vms",
                                    vms, "findings", exam_sorted (exam), NULL));
}

/* ---- looking --------------------------------------------------------------------------------- */

typedef struct {
  Exam *exam;
  guint pending;
} Looking;

/* One question to one VM. */
typedef struct {
  GTask *task;
  ExamVm *vm;
} Question;

static gboolean
nobody_listens (const GError *error)
{
  const char *cause = rechain_error_get_cause (error);
  return error->code == (int)UNREACHABLE && cause != NULL &&
         (g_str_has_suffix (cause, g_strerror (ENOENT)) ||
          g_str_has_suffix (cause, g_strerror (ECONNREFUSED)));
}

/* A VM that was asked for, that does not run, and of which nothing is known. */
static ExamVm *
unheard_of (Exam *exam)
{
  for (guint i = 0; !exam->all && i < exam->vms->len; i++) {
    ExamVm *vm = exam->vms->pdata[i];
    gboolean known = !vm->wanted || !vm->off || vm->disks->len > 0;
    for (guint k = 0; !known && exam->records != NULL && k < exam->records->len; k++)
      known = g_strcmp0 (((Record *)exam->records->pdata[k])->vm, vm->address) == 0;
    for (guint k = 0; !known && k < exam->open->len; k++)
      known = g_strcmp0 (((Op *)exam->open->pdata[k])->vm, vm->address) == 0;
    if (!known)
      return vm;
  }
  return NULL;
}

static void
examine (Exam *exam)
{
  exam->files = open_files_scan ();
  open_journal (exam);
  exam_host (exam);
  exam_disks (exam);
  exam_operations (exam);
  exam_records (exam);
  for (guint i = 0; i < exam->vms->len; i++)
    if (((ExamVm *)exam->vms->pdata[i])->wanted)
      exam_vm (exam, exam->vms->pdata[i]);
  exam_volumes (exam);
  exam_files (exam);
}

static void
one_answered (GTask *task)
{
  RechainDoctor *doctor = g_task_get_source_object (task);
  Looking *looking = g_task_get_task_data (task);
  if (--looking->pending > 0)
    return;
  g_autoptr (GTask) last = task;
  examine (doctor->exam);
  ExamVm *unknown = unheard_of (doctor->exam);
  if (unknown != NULL)
    g_task_return_error (task, g_error_copy (unknown->error));
  else if (!g_task_return_error_if_cancelled (task))
    g_task_return_pointer (task, document (doctor->exam), g_free);
}

static void
on_freeze_status (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  g_autofree Question *question = data;
  question->vm->frozen = json_object_is_type (ret, json_type_string) &&
                         g_str_equal (json_object_get_string (ret), "frozen");
  qmp_agent_free (agent);
  one_answered (question->task);
}

static void
ask_agent_of (Question *take_question)
{
  g_autofree Question *question = take_question;
  ExamVm *vm = question->vm;
  QmpAgent *agent = vm->agent && vm->world && world_running (vm->world)
                        ? qmp_agent_new (vm->agent, AGENT_MS, NULL)
                        : NULL;
  if (agent == NULL)
    one_answered (question->task);
  else
    qmp_agent_execute (agent, "guest-fsfreeze-status", NULL, AGENT_MS, on_freeze_status,
                       g_steal_pointer (&question));
}

static void
on_looked (GObject *source, GAsyncResult *result, gpointer data)
{
  Question *question = data;
  ExamVm *vm = question->vm;
  if (rechain_vm_look_finish (RECHAIN_VM (source), result, &vm->error))
    vm->world = rechain_vm_get_link (vm->vm)->world;
  else
    vm->off = nobody_listens (vm->error);
  ask_agent_of (question);
}

static void
on_lvs (Json *rows, const GError *error, gpointer data)
{
  GTask *task = data;
  RechainDoctor *doctor = g_task_get_source_object (task);
  doctor->exam->lvs = rows ? json_dup (rows) : NULL;
  one_answered (task);
}

static void
look_at (GTask *task, Exam *exam, const Known *known, const char *only)
{
  ExamVm *vm = g_new0 (ExamVm, 1);
  Question *question = g_new0 (Question, 1);
  *vm = (ExamVm){.name = known->name,
                 .address = known->address,
                 .agent = known->agent,
                 .vm = rechain_vm_new (exam->controller, known->address, NULL),
                 .disks = g_ptr_array_new_with_free_func (exam_disk_free),
                 .wanted = only == NULL || g_str_equal (only, known->name)};
  g_ptr_array_add (exam->vms, vm);
  *question = (Question){.task = task, .vm = vm};
  rechain_vm_look_async (vm->vm, g_task_get_cancellable (task), on_looked, question);
}

static gboolean
is_known (RechainDoctor *doctor, const char *name)
{
  for (guint i = 0; i < doctor->known->len; i++)
    if (g_str_equal (((Known *)doctor->known->pdata[i])->name, name))
      return TRUE;
  return FALSE;
}

void
rechain_doctor_examine_async (RechainDoctor *doctor, const char *vm, GCancellable *cancellable,
                              GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (doctor, cancellable, callback, user_data);
  Looking *looking = g_new0 (Looking, 1);
  g_task_set_task_data (task, looking, g_free);
  if (vm != NULL && !is_known (doctor, vm)) {
    g_task_return_new_error (task, RECHAIN_ERROR, RECHAIN_ERROR_NOT_FOUND, "there is no VM '%s'",
                             vm);
    g_object_unref (task);
    return;
  }
  g_clear_pointer (&doctor->exam, exam_free);
  doctor->exam = exam_new (doctor);
  doctor->exam->all = vm == NULL;
  gboolean lvm = lvm_is_usable (NULL);
  looking->pending = doctor->known->len + (lvm ? 2 : 1);
  for (guint i = 0; i < doctor->known->len; i++)
    look_at (task, doctor->exam, doctor->known->pdata[i], vm);
  if (lvm)
    lvm_lvs (NULL, NULL, on_lvs, task);
  one_answered (task);
}

char *
rechain_doctor_examine_finish (RechainDoctor *doctor, GAsyncResult *result, guint *ret_findings,
                               GError **error)
{
  char *text = g_task_propagate_pointer (G_TASK (result), error);
  if (ret_findings != NULL)
    *ret_findings = text ? (guint)json_length (doctor->exam->findings) : 0;
  return text;
}

char *
rechain_doctor_examine (RechainDoctor *doctor, const char *vm, GCancellable *cancellable,
                        guint *ret_findings, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_doctor_examine_async (doctor, vm, cancellable, waiting_done, &waiting);
  return rechain_doctor_examine_finish (doctor, waiting_result (&waiting), ret_findings, error);
}

/* ---- repairs --------------------------------------------------------------------------------- */

static void
add_cure (Op *op, const Cure *cure)
{
  OpDisk *disk =
      repair_add (op, cure->name, cure->cure, cure->details ? json_dup (cure->details) : NULL);
  disk->job = g_strdup (cure->job);
  disk->export = g_strdup (cure->export);
  disk->socket = g_strdup (cure->socket);
}

/* A file that @vm has open for writing; borrowed, nullable. */
static const char *
witness_of (ExamVm *vm)
{
  for (guint i = 0; i < vm->disks->len; i++) {
    ChainDisk *graph = ((ExamDisk *)vm->disks->pdata[i])->graph;
    ChainLayer *active = graph && graph->layers->len > 0 ? graph->layers->pdata[0] : NULL;
    if (active != NULL && active->file != NULL && file_has_writer (active->file))
      return active->file;
  }
  return NULL;
}

static void
set_vm (Op *op, ExamVm *vm)
{
  op_set_vm (op, rechain_vm_get_link (vm->vm)->client);
  json_set (op_disk (op, 0)->details, "witness", json_str (witness_of (vm)));
  op->locks = op_layers_are_open (op);
}

/* Full, nullable: all that is to be done on @vm (NULL: without one). */
static RechainOperation *
repair_of (Exam *exam, ExamVm *vm)
{
  Op *op = NULL;
  for (guint i = 0; i < exam->cures->len; i++) {
    Cure *cure = exam->cures->pdata[i];
    if (cure->vm != vm)
      continue;
    op = op ? op : op_new (OP_REPAIR);
    add_cure (op, cure);
  }
  if (op == NULL)
    return NULL;
  if (vm != NULL)
    set_vm (op, vm);
  return rechain_operation_wrap (exam->controller, vm ? vm->vm : NULL, op);
}

GPtrArray *
rechain_doctor_plan_repairs (RechainDoctor *doctor)
{
  GPtrArray *operations = g_ptr_array_new_with_free_func (g_object_unref);
  for (guint i = 0; doctor->exam != NULL && i < doctor->exam->vms->len; i++) {
    RechainOperation *one = repair_of (doctor->exam, doctor->exam->vms->pdata[i]);
    if (one != NULL)
      g_ptr_array_add (operations, one);
  }
  RechainOperation *files = doctor->exam ? repair_of (doctor->exam, NULL) : NULL;
  if (files != NULL)
    g_ptr_array_add (operations, files);
  return operations;
}
