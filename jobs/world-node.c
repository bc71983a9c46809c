/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one node is: a layer of a chain, a filter that shows what is under it, or neither. */
#include "jobs/world-private.h"

/* A driver that shows what lies under it, and the child that it shows. */
struct _Filter {
  const char *driver;
  const char *roles[2];
};

static const Filter filters[] = {
    {"throttle", {"file"}},
    {"copy-on-read", {"file"}},
    {"copy-before-write", {"file"}},
    {"compress", {"file"}},
    {"preallocate", {"file"}},
    {"blkdebug", {"image", "file"}},
    {"blklogwrites", {"file"}},
    {"blkreplay", {"image", "file"}},
    {"blkverify", {"test", "file"}},
    {"commit_top", {"backing", "file"}},
    {"mirror_top", {"backing", "file"}},
    {"backup-top", {"backing", "file"}},
};

/* Several children, or a view of its own: no chain can be read through these. */
static const char *const opaque[] = {"quorum", "replication", "snapshot-access", NULL};

static const Filter *
find_filter (const char *driver)
{
  for (guint i = 0; i < G_N_ELEMENTS (filters); i++)
    if (g_str_equal (driver, filters[i].driver))
      return &filters[i];
  return NULL;
}

Node *
node_new (const char *name, const char *driver, Json *info)
{
  Node *node = g_new0 (Node, 1);
  *node = (Node){.name = name, .driver = driver, .info = info};
  node->filter = find_filter (driver);
  node->children = g_array_new (FALSE, FALSE, sizeof (Child));
  node->disks = g_ptr_array_new ();
  return node;
}

void
node_free (Node *node)
{
  g_free (node->file);
  g_array_unref (node->children);
  g_ptr_array_unref (node->disks);
  g_free (node);
}

Node *
node_child (const Node *node, const char *role)
{
  for (guint i = 0; role != NULL && i < node->children->len; i++) {
    Child *child = &g_array_index (node->children, Child, i);
    if (g_str_equal (child->role, role))
      return child->node;
  }
  return NULL;
}

Node *
node_storage (const Node *node)
{
  Node *file = node_child (node, "file");
  return file ? file : node_child (node, "image");
}

Node *
node_below (const Node *node, gboolean *ret_is_filter)
{
  const Filter *filter = node->filter;
  *ret_is_filter = filter != NULL;
  if (filter == NULL)
    return node_storage (node);
  Node *shown = node_child (node, filter->roles[0]);
  return shown ? shown : node_child (node, filter->roles[1]);
}

Node *
node_protocol (Node *node)
{
  gboolean is_filter;
  for (guint i = 0; i < MAX_NESTING; i++) {
    Node *below = node_below (node, &is_filter);
    if (below == NULL)
      return node;
    node = below;
  }
  return NULL;
}

/* Is there a format under @node, behind filters only? */
static gboolean
shows_format (Node *node)
{
  gboolean is_filter;
  for (guint i = 0; node != NULL && i < MAX_NESTING; i++) {
    Node *below = node_below (node, &is_filter);
    if (!is_filter)
      return below != NULL;
    node = below;
  }
  return FALSE;
}

guint64
node_size (const Node *node)
{
  return (guint64)MAX (json_get_int (json_get (node->info, "image"), "virtual-size"), 0);
}

NodeKind
node_kind (Node *node, Node **ret_below)
{
  gboolean is_filter;
  *ret_below = node_below (node, &is_filter);
  if (is_filter)
    return IS_FILTER;
  if (is_one_of (node->driver, opaque))
    return IS_OPAQUE;
  if (!g_str_equal (node->driver, "raw") || *ret_below == NULL || !shows_format (*ret_below))
    return IS_LAYER;
  /* "raw" over a format shows it, unless "offset" or "size" make it a window. */
  return node_size (node) == node_size (*ret_below) ? IS_FILTER : IS_OPAQUE;
}

gboolean
node_is_implicit (const Node *node)
{
  return node->name[0] == '#' && (node->job_filter || g_str_has_suffix (node->driver, "_top") ||
                                  g_str_equal (node->driver, "backup-top"));
}
