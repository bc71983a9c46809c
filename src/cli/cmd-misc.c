/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* config check, version. */
#include "src/cli/print.h"

/* ---- version --------------------------------------------------------------------------------- */

gboolean
run_version (Cli *cli, GError **error)
{
  g_autoptr (Json) json =
      json_make ("schema", json_str ("rechain.version/1"), "version", json_str (RECHAIN_VERSION),
                 "library", json_str (rechain_version ()), NULL);
  g_autofree char *line = json_line (json);
  if (cli->output == OUTPUT_JSON)
    return out_document (cli, line, error);
  g_autofree char *text =
      g_strdup_printf ("rechain %s (librechain %s)", RECHAIN_VERSION, rechain_version ());
  return out_document (cli, text, error);
}

/* ---- config check ---------------------------------------------------------------------------- */

static Json *
words_json (char **words)
{
  Json *list = words ? json_object_new_array () : NULL;
  for (char **word = words; word != NULL && *word != NULL; word++)
    json_object_array_add (list, json_str (*word));
  return list;
}

static Json *
vms_json (Config *config)
{
  Json *list = json_object_new_array ();
  for (guint i = 0; i < config->vms->len; i++) {
    ConfigVm *vm = config->vms->pdata[i];
    json_object_array_add (list, json_make ("name", json_str (vm->name), "qmp", json_str (vm->qmp),
                                            "agent", json_str (vm->agent), NULL));
  }
  return list;
}

static Json *
hosts_json (Config *config)
{
  Json *list = json_object_new_array ();
  for (guint i = 0; i < config->hosts->len; i++) {
    ConfigHost *host = config->hosts->pdata[i];
    json_object_array_add (list,
                           json_make ("name", json_str (host->name), "ssh", json_str (host->ssh),
                                      "ssh-config", json_str (host->ssh_config), NULL));
  }
  return list;
}

static Json *
config_json (Config *config)
{
  Json *files = json_object_new_array ();
  for (guint i = 0; i < config->files->len; i++)
    json_object_array_add (files, json_str (config->files->pdata[i]));
  return json_make ("schema", json_str ("rechain.config/1"), "files", files, "vms",
                    vms_json (config), "hosts", hosts_json (config), "storage",
                    json_make ("allow", words_json (config->allow), "allow-vg",
                               words_json (config->allow_vg), NULL),
                    "limits",
                    json_make ("bandwidth",
                               config->bandwidth ? json_int ((gint64)config->bandwidth) : NULL,
                               NULL),
                    NULL);
}

static void
show_config (Cli *cli, Json *json, GString *out)
{
  Json *files = json_get (json, "files"), *vms = json_get (json, "vms");
  Json *storage = json_get (json, "storage"), *limits = json_get (json, "limits");
  for (gsize i = 0; i < json_length (files); i++)
    text_line (out, "read %s", json_object_get_string (json_at (files, i)));
  if (json_length (files) == 0)
    text_line (out, "there is no configuration; that is fine");
  for (gsize i = 0; i < json_length (vms); i++) {
    const char *qmp = json_get_str (json_at (vms, i), "qmp");
    text_line (out, "vm %s at %s", json_get_str (json_at (vms, i), "name"),
               qmp ? qmp : "no address");
  }
  Json *hosts = json_get (json, "hosts");
  for (gsize i = 0; i < json_length (hosts); i++) {
    const char *name = json_get_str (json_at (hosts, i), "name");
    const char *ssh = json_get_str (json_at (hosts, i), "ssh");
    text_line (out, "host %s at %s", name, ssh ? ssh : name);
  }
  g_autofree char *allow = joined (json_get (storage, "allow"), ", ");
  g_autofree char *allow_vg = joined (json_get (storage, "allow-vg"), ", ");
  g_autofree char *bandwidth = size_of (limits, "bandwidth");
  if (*allow != 0)
    text_line (out, "storage: %s", allow);
  if (*allow_vg != 0)
    text_line (out, "volume groups: %s", allow_vg);
  if (*bandwidth != 0)
    text_line (out, "bandwidth: %s/s", bandwidth);
}

gboolean
run_config_check (Cli *cli, GError **error)
{
  Config *config = cli_config (cli, error);
  if (config == NULL)
    return FALSE;
  g_autoptr (Json) json = config_json (config);
  g_autofree char *line = json_line (json);
  return (cli->quiet && cli->output == OUTPUT_TEXT) || out_either (cli, line, show_config, error);
}
