/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changing storage: vol create, clone, copy and so on. Words become a request. */
#include "src/cli/operate.h"
#include "src/cli/vol.h"
#include "src/cli/wait.h"

/* Options whose values go into the request as they are, under their own names. */
static const OptionId plain[] = {
    OPT_FORMAT,         OPT_SOURCE_FORMAT, OPT_CAPACITY, OPT_ALLOCATION, OPT_BACKING,
    OPT_BACKING_FORMAT, OPT_MODE,          OPT_OWNER,    OPT_GROUP,      OPT_ARCHIVE,
    OPT_FORCE,          OPT_TIMEOUT,       OPT_SHRINK,   OPT_OVERWRITE,  OPT_RELATIVE,
    OPT_DELETE,         OPT_POOL,          OPT_METHOD,   OPT_SNAPSHOT,
};

static gboolean
set_options (Cli *cli, RechainVolumeRequest *request, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (plain); i++)
    if (args_has (&cli->args, plain[i]) &&
        !rechain_volume_request_set (request, options[plain[i]].name,
                                     args_value (&cli->args, plain[i]), error))
      return FALSE;
  return TRUE;
}

/* [limits] bandwidth is the default, and the most that can be asked for. */
static gboolean
set_bandwidth (Cli *cli, RechainVolumeRequest *request, GError **error)
{
  guint64 bytes = 0;
  if ((cli->command->options & OPTION_BIT (OPT_BANDWIDTH)) == 0)
    return TRUE;
  if (!bandwidth_wanted (cli, &bytes, error))
    return FALSE;
  g_autofree char *text = g_strdup_printf ("%" G_GUINT64_FORMAT, bytes);
  return rechain_volume_request_set (request, "bandwidth", text, error);
}

RechainOperation *
vol_plan (RechainStorage *storage, RechainVolumeRequest *request, GError **error)
{
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_storage_plan_async (storage, request, wait_cancellable (wait), wait_done, wait);
  RechainOperation *operation = rechain_storage_plan_finish (storage, wait_run (wait), error);
  if (operation == NULL)
    wait_explain (wait, "planning", error);
  return operation;
}

static gboolean
read_xml (Cli *cli, RechainVolumeRequest *request, const char *origin, GError **error)
{
  gsize length = 0;
  g_autofree char *text = cli_document (cli, OPT_XML, &length, error);
  return text != NULL && rechain_volume_request_set_xml (request, text, length, origin, error);
}

RechainVolumeRequest *
vol_request (Cli *cli, RechainVolumeKind kind, const char *const *names, GError **error)
{
  g_autoptr (RechainVolumeRequest) request = rechain_volume_request_new (kind);
  const char *xml = args_value (&cli->args, OPT_XML);
  for (guint i = 0; i < cli->n_words; i++)
    if (!rechain_volume_request_set (request, names[i], cli->words[i], error))
      return NULL;
  if (!set_options (cli, request, error) || !set_bandwidth (cli, request, error) ||
      (xml != NULL && !read_xml (cli, request, xml, error)))
    return NULL;
  return g_steal_pointer (&request);
}

gboolean
vol_operate (Cli *cli, RechainStorage *storage, RechainVolumeRequest *request, GError **error)
{
  g_autoptr (RechainOperation) operation = vol_plan (storage, request, error);
  return operation != NULL && operate_planned (cli, operation, error);
}

static gboolean
change (Cli *cli, RechainVolumeKind kind, const char *const *names, GError **error)
{
  g_autoptr (RechainStorage) storage = cli_storage (cli, error);
  g_autoptr (RechainVolumeRequest) request = storage ? vol_request (cli, kind, names, error) : NULL;
  return request != NULL && vol_operate (cli, storage, request, error);
}

static const char *const volume_only[] = {"volume"};
static const char *const volume_and_size[] = {"volume", "capacity"};
static const char *const source_only[] = {"source", "archive"};
static const char *const from_to[] = {"source", "volume"};

gboolean
run_vol_create (Cli *cli, GError **error)
{
  return change (cli, RECHAIN_VOLUME_CREATE, volume_only, error);
}

gboolean
run_vol_clone (Cli *cli, GError **error)
{
  return change (cli, RECHAIN_VOLUME_CLONE, from_to, error);
}

gboolean
run_vol_copy_contents (Cli *cli, GError **error)
{
  return change (cli, RECHAIN_VOLUME_COPY_CONTENTS, from_to, error);
}

gboolean
run_vol_resize (Cli *cli, GError **error)
{
  return change (cli, RECHAIN_VOLUME_RESIZE, volume_and_size, error);
}

gboolean
run_vol_growfs (Cli *cli, GError **error)
{
  return change (cli, RECHAIN_VOLUME_GROWFS, volume_and_size, error);
}

gboolean
run_vol_shrinkfs (Cli *cli, GError **error)
{
  return change (cli, RECHAIN_VOLUME_SHRINKFS, volume_and_size, error);
}

gboolean
run_vol_snapshot (Cli *cli, GError **error)
{
  static const char *const names[] = {"source", "name"};
  return change (cli, RECHAIN_VOLUME_SNAPSHOT, names, error);
}

gboolean
run_vol_delete (Cli *cli, GError **error)
{
  return change (cli, RECHAIN_VOLUME_DELETE, volume_only, error);
}

gboolean
run_vol_compress (Cli *cli, GError **error)
{
  return change (cli, RECHAIN_VOLUME_COMPRESS, source_only, error);
}

gboolean
run_vol_decompress (Cli *cli, GError **error)
{
  return change (cli, RECHAIN_VOLUME_DECOMPRESS, source_only, error);
}
