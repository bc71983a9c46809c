/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/undo.h"

#include "src/common/error.h"

/* The overlay goes back into the layer that it was put upon, and is removed. */
static Request *
undo_snapshot (Op *op)
{
  Request *request = request_new (OP_COMMIT);
  request->flags = OP_DELETE;
  request->grow_step = op->grow_step;
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    RequestDisk *wanted = request_add_disk (request, disk->name);
    wanted->top = g_strdup (disk->to);
    wanted->base = g_strdup (((ChainLayer *)disk->before->pdata[0])->file);
  }
  return request;
}

/* What lies beside a chain is removed, as when the snapshot is deleted. */
static Request *
undo_beside (Op *op)
{
  Request *request = request_new (OP_SNAPSHOT_DELETE);
  request->flags = OP_DELETE;
  request->name = g_strdup (op->name);
  request->direction = MERGE_BACKWARD;
  return request;
}

static const char *
what_to_do (OpKind kind)
{
  switch (kind) {
  case OP_QUIESCE:
    return "rechain thaw ends a freeze";
  case OP_MOVE:
  case OP_COPY:
    return "the layers it left are as old as it is; move or copy the disk back instead";
  case OP_PULL:
  case OP_COMMIT:
  case OP_MERGE:
    return "layers that became one cannot be told apart again";
  default:
    return "only a snapshot can be undone";
  }
}

Request *
request_to_undo (Op *op, GError **error)
{
  if (op->state != OP_DONE) {
    fail (error, REFUSED, "operation %s is %s; only one that is done can be undone", op->id,
          op_state_name (op->state));
    if (!op_state_is_end (op->state))
      hint (error, "rechain op cancel %s, or where its process is gone: rechain recover --op %s",
            op->id, op->id);
  } else if (op->kind == OP_SNAPSHOT && op->vm != NULL)
    return op_has_beside (op) ? undo_beside (op) : undo_snapshot (op);
  else {
    fail (error, REFUSED, "a %s cannot be undone when it is done", op_kind_name (op->kind));
    hint (error, "%s", what_to_do (op->kind));
  }
  return NULL;
}
