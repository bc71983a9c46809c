/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changing: snapshot create, move, pull, commit, merge, copy. Words become a request; operate()
 * plans and runs it. */
#include "src/cli/disks.h"
#include "src/cli/operate.h"
#include "src/cli/show.h"
#include "src/common/fs.h"
#include "src/common/merge-xml.h"
#include "src/common/xml.h"

#include <string.h>

/* ---- disks ----------------------------------------------------------------------------------- */

/* What is a file to be created is meant as seen from here, not as seen from QEMU. */
static char *
disk_value (const char *key, const char *value)
{
  gboolean is_path =
      strcmp (key, "to") == 0 || strcmp (key, "device") == 0 || strcmp (key, "subvolume") == 0;
  return is_path ? path_absolute (value) : g_strdup (value);
}

static gboolean
add_disk (RechainRequest *request, const DiskArg *disk, GError **error)
{
  rechain_request_add_disk (request, disk->name);
  for (guint i = 0; i < disk->keys->len; i++) {
    const char *key = disk->keys->pdata[i];
    g_autofree char *value = disk_value (key, disk->values->pdata[i]);
    if (!rechain_request_set_disk_option (request, disk->name, key, value, error))
      return FALSE;
  }
  return TRUE;
}

/* The options --to, --base ... are those of the one disk there is. */
static gboolean
apply_disk_options (Cli *cli, GPtrArray *disks, GError **error)
{
  static const OptionId ids[] = {OPT_TO,     OPT_BASE,   OPT_FORMAT,       OPT_TOP,
                                 OPT_SOURCE, OPT_DEST,   OPT_ALLOW_SHARED, OPT_ON_DELETE,
                                 OPT_METHOD, OPT_DEVICE, OPT_SUBVOLUME,    OPT_SIZE};
  for (gsize i = 0; i < G_N_ELEMENTS (ids); i++) {
    const Option *option = &options[ids[i]];
    const char *value = args_value (&cli->args, ids[i]);
    if (value == NULL)
      continue;
    if (disks->len != 1) {
      fail (error, USAGE, "option '--%s' goes with exactly one disk", option->name);
      return hint (error, "write it behind each disk: DISK,%s=%s", option->name, option->value);
    }
    if (!disk_arg_set (disks->pdata[0], option->name, value, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
is_listed (GPtrArray *disks, const char *name)
{
  for (guint i = 0; i < disks->len; i++)
    if (strcmp (((DiskArg *)disks->pdata[i])->name, name) == 0)
      return TRUE;
  return FALSE;
}

static gboolean
is_offline (Cli *cli)
{
  return args_has (&cli->args, OPT_OFFLINE);
}

/* The words after VM; offline there is none. */
static GPtrArray *
read_disks (Cli *cli, const char *const *known, GError **error)
{
  g_autoptr (GPtrArray) disks = g_ptr_array_new_with_free_func ((GDestroyNotify)disk_arg_free);
  for (guint i = is_offline (cli) ? 0 : 1; i < cli->n_words; i++) {
    g_autoptr (DiskArg) disk = disk_arg_parse (cli->words[i], known, error);
    if (disk == NULL)
      return NULL;
    if (is_listed (disks, disk->name)) {
      fail (error, USAGE, "disk '%s' is named twice", disk->name);
      return NULL;
    }
    g_ptr_array_add (disks, g_steal_pointer (&disk));
  }
  return apply_disk_options (cli, disks, error) ? g_steal_pointer (&disks) : NULL;
}

static gboolean
add_disks (RechainRequest *request, GPtrArray *disks, GError **error)
{
  for (guint i = 0; i < disks->len; i++)
    if (!add_disk (request, disks->pdata[i], error))
      return FALSE;
  return TRUE;
}

/* ---- how ------------------------------------------------------------------------------------- */

static gboolean
set_flags (Cli *cli, RechainRequest *request, GError **error)
{
  static const struct {
    OptionId id;
    RechainFlags flag;
  } table[] = {
      {OPT_DELETE, RECHAIN_FLAG_DELETE},
      {OPT_RELATIVE, RECHAIN_FLAG_RELATIVE},
      {OPT_REUSE, RECHAIN_FLAG_REUSE},
      {OPT_NO_UNDO, RECHAIN_FLAG_NO_UNDO},
      {OPT_SHALLOW, RECHAIN_FLAG_SHALLOW},
      {OPT_DETACH, RECHAIN_FLAG_DETACH_BACKING},
      {OPT_NO_PIVOT, RECHAIN_FLAG_NO_PIVOT},
      {OPT_QUIESCE, RECHAIN_FLAG_QUIESCED},
      {OPT_QUIESCE_BEST_EFFORT, RECHAIN_FLAG_QUIESCED | RECHAIN_FLAG_BEST_EFFORT},
  };
  RechainFlags flags = RECHAIN_FLAG_NONE;
  for (gsize i = 0; i < G_N_ELEMENTS (table); i++)
    if (args_has (&cli->args, table[i].id))
      flags |= table[i].flag;
  const char *pivot = args_value (&cli->args, OPT_PIVOT);
  if (g_strcmp0 (pivot, "live") == 0)
    flags |= RECHAIN_FLAG_PIVOT_LIVE;
  else if (pivot != NULL && strcmp (pivot, "quiesced") != 0) {
    fail (error, USAGE, "'%s' is no value of --pivot", pivot);
    return hint (error, "it can be: quiesced, live");
  }
  rechain_request_set_flags (request, flags);
  return TRUE;
}

static gboolean
of_option (OptionId id, GError **error)
{
  return prefix (error, "option '--%s'", options[id].name);
}

static gboolean
set_bandwidth (Cli *cli, RechainRequest *request, GError **error)
{
  guint64 bytes = 0;
  if (!bandwidth_wanted (cli, &bytes, error))
    return FALSE;
  rechain_request_set_bandwidth (request, bytes);
  return TRUE;
}

/* Groups bind whatever touches them. */
static gboolean
set_growth (Cli *cli, RechainRequest *request, GError **error)
{
  const char *text = args_value (&cli->args, OPT_GROW_LV);
  Config *config = cli_config (cli, error);
  guint64 bytes = RECHAIN_GROW_STEP;
  if (config == NULL)
    return FALSE;
  rechain_request_set_allowed_groups (request, (const char *const *)config->allow_vg);
  if (!args_has (&cli->args, OPT_GROW_LV))
    return TRUE;
  return ((text == NULL || parse_size (text, &bytes, error)) &&
          rechain_request_set_grow_step (request, bytes, error)) ||
         of_option (OPT_GROW_LV, error);
}

static gboolean
set_duration (Cli *cli, RechainRequest *request, OptionId id,
              void (*set) (RechainRequest *request, guint64 ms), GError **error)
{
  const char *text = args_value (&cli->args, id);
  guint64 ms = 0;
  if (text == NULL)
    return TRUE;
  if (!parse_duration (text, &ms, error))
    return of_option (id, error);
  set (request, ms);
  return TRUE;
}

static gboolean
set_agent (Cli *cli, RechainRequest *request, GError **error)
{
  GError *problem = NULL;
  rechain_request_set_agent (request, cli_agent (cli, cli->words[0], &problem));
  if (problem != NULL)
    g_propagate_error (error, problem);
  return problem == NULL;
}

gboolean
set_how (Cli *cli, RechainRequest *request, GError **error)
{
  return set_flags (cli, request, error) && set_bandwidth (cli, request, error) &&
         set_growth (cli, request, error) &&
         set_duration (cli, request, OPT_TIMEOUT, rechain_request_set_timeout, error) &&
         set_duration (cli, request, OPT_MAX_PAUSE, rechain_request_set_max_pause, error) &&
         set_duration (cli, request, OPT_MAX_FREEZE, rechain_request_set_max_freeze, error) &&
         set_agent (cli, request, error);
}

/* ---- the commands ---------------------------------------------------------------------------- */

/* @option, with a value that says @what, is named for each disk. */
static gboolean
check_option (GPtrArray *disks, OptionId id, const char *what, GError **error)
{
  const char *name = options[id].name;
  for (guint i = 0; i < disks->len; i++) {
    DiskArg *disk = disks->pdata[i];
    if (disk_arg_get (disk, name) != NULL)
      continue;
    fail (error, USAGE, "disk '%s': %s", disk->name, what);
    return disks->len == 1 ? hint (error, "add --%s %s", name, options[id].value)
                           : hint (error, "write %s,%s=%s", disk->name, name, options[id].value);
  }
  return TRUE;
}

static gboolean
change (Cli *cli, RechainKind kind, GPtrArray *disks, GError **error)
{
  g_autoptr (RechainRequest) request = rechain_request_new (kind);
  rechain_request_set_name (request, args_value (&cli->args, OPT_NAME));
  return add_disks (request, disks, error) && set_how (cli, request, error) &&
         operate (cli, is_offline (cli) ? NULL : cli->words[0], request, error);
}

gboolean
run_move (Cli *cli, GError **error)
{
  static const char *const known[] = {"to", "base", "format", NULL};
  g_autoptr (GPtrArray) disks = read_disks (cli, known, error);
  return disks != NULL &&
         check_option (disks, OPT_TO, "move needs a file for it to go to", error) &&
         change (cli, RECHAIN_KIND_MOVE, disks, error);
}

/* ---- snapshot create ------------------------------------------------------------------------- */

/* Full: the document of --xml. */
static char *
read_document (Cli *cli, gsize *ret_length, GError **error)
{
  if (cli->n_words == 1)
    return cli_document (cli, OPT_XML, ret_length, error);
  fail (error, USAGE, "--xml names the disks itself: '%s' is an argument too many", cli->words[1]);
  return NULL;
}

/* What the document says, within the directories that the configuration allows. */
static RechainRequest *
request_from_document (Cli *cli, GError **error)
{
  gsize length = 0;
  Config *config = cli_config (cli, error);
  g_autofree char *text = config ? read_document (cli, &length, error) : NULL;
  if (text == NULL)
    return NULL;
  RechainRequest *request =
      rechain_request_new_from_xml (text, length, args_value (&cli->args, OPT_XML), error);
  if (request != NULL) {
    rechain_request_set_allowed (request, (const char *const *)config->allow);
    rechain_request_set_allowed_groups (request, (const char *const *)config->allow_vg);
  }
  return request;
}

static RechainRequest *
request_from_words (Cli *cli, GError **error)
{
  static const char *const known[] = {"to",     "format",    "on-delete", "method",
                                      "device", "subvolume", "size",      NULL};
  g_autoptr (GPtrArray) disks = read_disks (cli, known, error);
  g_autoptr (RechainRequest) request = rechain_request_new (RECHAIN_KIND_SNAPSHOT);
  return disks != NULL && add_disks (request, disks, error) ? g_steal_pointer (&request) : NULL;
}

static gboolean
redefine (Cli *cli, GError **error)
{
  const char *origin = args_value (&cli->args, OPT_XML);
  gsize length = 0;
  if (origin == NULL) {
    fail (error, USAGE, "--redefine needs the snapshot as a document");
    return hint (error, "add --xml FILE, as 'snapshot show --xml' printed it");
  }
  Config *config = cli_config (cli, error);
  g_autofree char *text = config ? read_document (cli, &length, error) : NULL;
  g_autoptr (RechainVm) vm = text ? cli_look (cli, cli->words[0], error) : NULL;
  if (vm == NULL)
    return FALSE;
  rechain_vm_set_allowed (vm, (const char *const *)config->allow,
                          (const char *const *)config->allow_vg);
  g_autofree char *document = rechain_vm_import_snapshot (vm, text, length, origin, error);
  return document != NULL && out_either (cli, document, show_snapshot, error);
}

gboolean
run_snapshot_create (Cli *cli, GError **error)
{
  if (args_has (&cli->args, OPT_REDEFINE))
    return redefine (cli, error);
  g_autoptr (RechainRequest) request = args_has (&cli->args, OPT_XML)
                                           ? request_from_document (cli, error)
                                           : request_from_words (cli, error);
  if (request == NULL)
    return FALSE;
  if (args_has (&cli->args, OPT_NAME))
    rechain_request_set_name (request, args_value (&cli->args, OPT_NAME));
  if (args_has (&cli->args, OPT_DESCRIPTION))
    rechain_request_set_description (request, args_value (&cli->args, OPT_DESCRIPTION));
  return set_how (cli, request, error) && operate (cli, cli->words[0], request, error);
}

/* ---- merges ---------------------------------------------------------------------------------- */

gboolean
run_pull (Cli *cli, GError **error)
{
  static const char *const known[] = {"base", "top", "allow-shared", NULL};
  g_autoptr (GPtrArray) disks = read_disks (cli, known, error);
  return disks != NULL && change (cli, RECHAIN_KIND_PULL, disks, error);
}

gboolean
run_rebase (Cli *cli, GError **error)
{
  static const char *const known[] = {"base", "top", "allow-shared", NULL};
  g_autoptr (GPtrArray) disks = read_disks (cli, known, error);
  return disks != NULL &&
         check_option (disks, OPT_BASE, "rebase needs the layer that is to back it", error) &&
         change (cli, RECHAIN_KIND_PULL, disks, error);
}

gboolean
run_commit (Cli *cli, GError **error)
{
  static const char *const known[] = {"top", "base", "allow-shared", NULL};
  g_autoptr (GPtrArray) disks = read_disks (cli, known, error);
  return disks != NULL && change (cli, RECHAIN_KIND_COMMIT, disks, error);
}

/* Source and destination from a document, for the one disk that is named. */
static gboolean
merge_from_document (Cli *cli, GPtrArray *disks, GError **error)
{
  const char *file = args_value (&cli->args, OPT_XML);
  if (file == NULL)
    return TRUE;
  if (disks->len != 1)
    return fail (error, USAGE, "option '--xml' goes with exactly one disk");
  gsize length = 0;
  g_autofree char *text = cli_document (cli, OPT_XML, &length, error);
  g_autoptr (MergeXml) merge = text ? merge_xml_parse (text, length, file, error) : NULL;
  return merge != NULL && disk_arg_set (disks->pdata[0], "source", merge->source, error) &&
         disk_arg_set (disks->pdata[0], "dest", merge->dest, error);
}

gboolean
run_merge (Cli *cli, GError **error)
{
  static const char *const known[] = {"source", "dest", "allow-shared", NULL};
  g_autoptr (GPtrArray) disks = read_disks (cli, known, error);
  return disks != NULL && merge_from_document (cli, disks, error) &&
         check_option (disks, OPT_SOURCE, "merge needs the layer that is merged", error) &&
         check_option (disks, OPT_DEST, "merge needs the layer that receives it", error) &&
         change (cli, RECHAIN_KIND_MERGE, disks, error);
}

gboolean
run_copy (Cli *cli, GError **error)
{
  static const char *const known[] = {"to", "format", NULL};
  g_autoptr (GPtrArray) disks = read_disks (cli, known, error);
  return disks != NULL && check_option (disks, OPT_TO, "copy needs a file to copy to", error) &&
         change (cli, RECHAIN_KIND_COPY, disks, error);
}
