/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/config.h"
#include "src/common/error.h"
#include "src/common/size.h"

#include <string.h>

#define MAX_CONFIG_SIZE (1 << 20)

static void
config_vm_free (gpointer data)
{
  ConfigVm *vm = data;
  g_free (vm->name);
  g_free (vm->qmp);
  g_free (vm->agent);
  g_free (vm);
}

static void
config_host_free (gpointer data)
{
  ConfigHost *host = data;
  g_free (host->name);
  g_free (host->ssh);
  g_free (host->ssh_config);
  g_free (host);
}

Config *
config_new (void)
{
  Config *config = g_new0 (Config, 1);
  config->files = g_ptr_array_new_with_free_func (g_free);
  config->vms = g_ptr_array_new_with_free_func (config_vm_free);
  config->hosts = g_ptr_array_new_with_free_func (config_host_free);
  return config;
}

void
config_free (Config *config)
{
  g_ptr_array_unref (config->files);
  g_ptr_array_unref (config->vms);
  g_ptr_array_unref (config->hosts);
  g_strfreev (config->allow);
  g_strfreev (config->allow_vg);
  g_free (config);
}

ConfigVm *
config_vm (Config *config, const char *name)
{
  for (guint i = 0; i < config->vms->len; i++) {
    ConfigVm *vm = config->vms->pdata[i];
    if (strcmp (vm->name, name) == 0)
      return vm;
  }
  return NULL;
}

static ConfigVm *
config_vm_ensure (Config *config, const char *name)
{
  ConfigVm *vm = config_vm (config, name);
  if (vm == NULL) {
    vm = g_new0 (ConfigVm, 1);
    vm->name = g_strdup (name);
    g_ptr_array_add (config->vms, vm);
  }
  return vm;
}

ConfigHost *
config_host (Config *config, const char *name)
{
  for (guint i = 0; i < config->hosts->len; i++) {
    ConfigHost *host = config->hosts->pdata[i];
    if (strcmp (host->name, name) == 0)
      return host;
  }
  return NULL;
}

static ConfigHost *
config_host_ensure (Config *config, const char *name)
{
  ConfigHost *host = config_host (config, name);
  if (host == NULL) {
    host = g_new0 (ConfigHost, 1);
    host->name = g_strdup (name);
    g_ptr_array_add (config->hosts, host);
  }
  return host;
}

gboolean
is_address (const char *text)
{
  return strchr (text, '/') != NULL || g_str_has_prefix (text, "unix:") ||
         g_str_has_prefix (text, "tcp:");
}

/* What a key is set in: the vm or the host of its group, or neither. */
typedef struct {
  Config *config;
  ConfigVm *vm;
  ConfigHost *host;
} Place;

/* ---- values ---------------------------------------------------------------------------------- */

static gboolean
set_address (char **field, const char *value, GError **error)
{
  const char *path = g_str_has_prefix (value, "unix:") ? value + strlen ("unix:") : value;
  if (!g_str_has_prefix (value, "tcp:") && path[0] != '/')
    return fail (error, USAGE, "'%s' is no address: write /PATH, unix:/PATH or tcp:HOST:PORT",
                 value);
  g_free (*field);
  *field = g_strdup (value);
  return TRUE;
}

static gboolean
set_qmp (Place *place, const char *value, GError **error)
{
  return set_address (&place->vm->qmp, value, error);
}

static gboolean
set_agent (Place *place, const char *value, GError **error)
{
  return set_address (&place->vm->agent, value, error);
}

static char **
split_list (const char *value)
{
  g_autoptr (GStrvBuilder) list = g_strv_builder_new ();
  g_auto (GStrv) parts = g_strsplit (value, ";", -1);
  for (char **part = parts; *part != NULL; part++)
    if (*g_strstrip (*part) != 0)
      g_strv_builder_add (list, *part);
  return g_strv_builder_end (list);
}

static gboolean
set_allow (Place *place, const char *value, GError **error)
{
  g_auto (GStrv) list = split_list (value);
  for (char **dir = list; *dir != NULL; dir++)
    if ((*dir)[0] != '/')
      return fail (error, USAGE, "'%s' is no absolute path", *dir);
  g_strfreev (place->config->allow);
  place->config->allow = g_steal_pointer (&list);
  return TRUE;
}

static gboolean
set_allow_vg (Place *place, const char *value, GError **error)
{
  g_strfreev (place->config->allow_vg);
  place->config->allow_vg = split_list (value);
  return TRUE;
}

static gboolean
set_bandwidth (Place *place, const char *value, GError **error)
{
  return parse_size (value, &place->config->bandwidth, error);
}

/* Names that begin with '-' are refused where they are used, as those of the command line are. */
static gboolean
set_ssh (Place *place, const char *value, GError **error)
{
  g_free (place->host->ssh);
  place->host->ssh = g_strdup (value);
  return TRUE;
}

static gboolean
set_ssh_config (Place *place, const char *value, GError **error)
{
  if (value[0] != '/')
    return fail (error, USAGE, "'%s' is no absolute path", value);
  g_free (place->host->ssh_config);
  place->host->ssh_config = g_strdup (value);
  return TRUE;
}

/* ---- the table of what there is -------------------------------------------------------------- */

typedef struct {
  const char *group;
  const char *key;
  gboolean (*set) (Place *place, const char *value, GError **error);
} Key;

static const Key keys[] = {
    {"storage", "allow", set_allow},
    {"storage", "allow-vg", set_allow_vg},
    {"vm", "qmp", set_qmp},
    {"vm", "agent", set_agent},
    {"limits", "bandwidth", set_bandwidth},
    {"host", "ssh", set_ssh},
    {"host", "ssh-config", set_ssh_config},
};

static const Key *
find_key (const char *group, const char *key)
{
  for (gsize i = 0; i < G_N_ELEMENTS (keys); i++)
    if (strcmp (keys[i].group, group) == 0 && (key == NULL || strcmp (keys[i].key, key) == 0))
      return &keys[i];
  return NULL;
}

static gboolean
hint_keys (const char *group, GError **error)
{
  g_autoptr (GString) names = g_string_new (NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (keys); i++)
    if (strcmp (keys[i].group, group) == 0)
      g_string_append_printf (names, "%s%s", names->len ? ", " : "", keys[i].key);
  return hint (error, "[%s] knows: %s", group, names->str);
}

/* ---- reading, line by line: GKeyFile cannot say on which line something stands --------------- */

typedef struct {
  Place place;
  char *group; /* "storage", "vm", "limits", "host"; NULL before the first one */
} Reader;

static gboolean
read_named_group (Reader *reader, const char *group, const char *name, GError **error)
{
  gboolean vm = strcmp (group, "vm") == 0;
  if (*name == 0) {
    fail (error, USAGE, "a %s needs a name", group);
    return hint (error, "write [%s NAME]", group);
  }
  if (vm && is_address (name))
    return fail (error, USAGE, "'%s' cannot be the name of a vm: it reads as an address", name);
  if (!vm && strpbrk (name, ":/") != NULL)
    return fail (error, USAGE, "'%s' cannot be the name of a host: it has a ':' or '/'", name);
  reader->place.vm = vm ? config_vm_ensure (reader->place.config, name) : NULL;
  reader->place.host = vm ? NULL : config_host_ensure (reader->place.config, name);
  return TRUE;
}

static gboolean
read_group (Reader *reader, char *line, GError **error)
{
  gsize length = strlen (line);
  if (line[length - 1] != ']')
    return fail (error, USAGE, "'%s' lacks its closing bracket", line);
  line[length - 1] = 0;
  char *name = g_strstrip (line + 1);
  char *rest = name + strcspn (name, " \t");
  gboolean has_rest = *rest != 0;
  if (has_rest)
    *rest++ = 0;
  rest = g_strstrip (rest);
  gboolean named = strcmp (name, "vm") == 0 || strcmp (name, "host") == 0;
  if (find_key (name, NULL) == NULL || (has_rest && !named)) {
    fail (error, USAGE, "unknown group [%s%s%s]", name, has_rest ? " " : "", rest);
    return hint (error, "there are [storage], [vm NAME], [host NAME] and [limits]");
  }
  g_free (reader->group);
  reader->group = g_strdup (name);
  reader->place.vm = NULL;
  reader->place.host = NULL;
  return !named || read_named_group (reader, name, rest, error);
}

static gboolean
read_key (Reader *reader, char *line, GError **error)
{
  char *value = strchr (line, '=');
  if (value == NULL)
    return fail (error, USAGE, "'%s' is neither [GROUP] nor KEY=VALUE", line);
  *value++ = 0;
  line = g_strstrip (line);
  value = g_strstrip (value);
  if (reader->group == NULL)
    return fail (error, USAGE, "key '%s' stands before the first [GROUP]", line);
  const Key *key = find_key (reader->group, line);
  if (key == NULL) {
    fail (error, USAGE, "unknown key '%s' in [%s]", line, reader->group);
    return hint_keys (reader->group, error);
  }
  if (*value == 0)
    return fail (error, USAGE, "key '%s' has no value", line);
  return key->set (&reader->place, value, error) || prefix (error, "%s", line);
}

static gboolean
read_line (Reader *reader, char *line, GError **error)
{
  line = g_strstrip (line);
  if (line[0] == 0 || line[0] == '#')
    return TRUE;
  return line[0] == '[' ? read_group (reader, line, error) : read_key (reader, line, error);
}

gboolean
config_read (Config *config, const char *name, const char *text, gsize length, GError **error)
{
  if (!g_utf8_validate_len (text, length, NULL))
    return fail (error, USAGE, "%s: is not UTF-8 text", name);
  Reader reader = {.place = {.config = config}};
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  gboolean ok = TRUE;
  for (guint i = 0; ok && lines[i] != NULL; i++)
    ok = read_line (&reader, lines[i], error) || prefix (error, "%s:%u", name, i + 1);
  g_free (reader.group);
  return ok;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A file that is not there is an error only where it was asked for by name. */
static gboolean
read_file (Config *config, const char *path, gboolean required, GError **error)
{
  g_autofree char *text = NULL;
  gsize length = 0;
  g_autoptr (GError) problem = NULL;
  if (!g_file_get_contents (path, &text, &length, &problem)) {
    if (!required && (g_error_matches (problem, G_FILE_ERROR, G_FILE_ERROR_NOENT) ||
                      g_error_matches (problem, G_FILE_ERROR, G_FILE_ERROR_NOTDIR)))
      return TRUE;
    gboolean denied = g_error_matches (problem, G_FILE_ERROR, G_FILE_ERROR_ACCES) ||
                      g_error_matches (problem, G_FILE_ERROR, G_FILE_ERROR_PERM);
    fail (error, denied ? PERMISSION : USAGE, "cannot read the configuration %s", path);
    return because (error, "%s", problem->message);
  }
  if (length > MAX_CONFIG_SIZE)
    return fail (error, USAGE, "%s: is over 1 MiB", path);
  g_ptr_array_add (config->files, g_strdup (path));
  return config_read (config, path, text, length, error);
}

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

static gboolean
read_drop_ins (Config *config, const char *directory, GError **error)
{
  g_autoptr (GDir) dir = g_dir_open (directory, 0, NULL);
  g_autoptr (GPtrArray) paths = g_ptr_array_new_with_free_func (g_free);
  const char *name;
  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    if (name[0] != '.' && g_str_has_suffix (name, ".conf"))
      g_ptr_array_add (paths, g_build_filename (directory, name, NULL));
  g_ptr_array_sort (paths, compare_names);
  for (guint i = 0; i < paths->len; i++)
    if (!read_file (config, paths->pdata[i], FALSE, error))
      return FALSE;
  return TRUE;
}

static gboolean
read_usual_files (Config *config, GError **error)
{
  g_autofree char *own =
      g_build_filename (g_get_user_config_dir (), "rechain", "rechain.conf", NULL);
  return read_file (config, "/etc/rechain/rechain.conf", FALSE, error) &&
         read_drop_ins (config, "/etc/rechain/conf.d", error) &&
         read_file (config, own, FALSE, error);
}

Config *
config_load (const char *file, GError **error)
{
  g_autoptr (Config) config = config_new ();
  gboolean ok = file ? read_file (config, file, TRUE, error) : read_usual_files (config, error);
  return ok ? g_steal_pointer (&config) : NULL;
}
