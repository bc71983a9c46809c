/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A snapshot for another host, which reads it while somebody goes on writing to the volume. */
#include "src/storage/offer.h"
#include "src/storage/plan-private.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* The volume keeps its name, and may be lent more than once: the operation is one on the
 * snapshot. */
gboolean
plan_lend (VolumePlan *plan, GError **error)
{
  const Codec *packed = NULL;
  if (plan->request->source == NULL)
    return fail (error, USAGE, "no volume is named");
  if (!plan_find_instant (plan, error) ||
      !offer_find_packing (plan->request, plan->source, &packed, error))
    return FALSE;
  g_autofree char *path = plan_instant_path (plan);
  plan_begin (plan, path);
  plan_use (plan, plan->source->place.path);
  json_set (plan->disk->details, "offer", offer_document (plan->source, packed));
  plan->op->lends = TRUE;
  return plan_set_instant (plan, error);
}

/* Of a device, too. */
static gboolean
find_size (const char *path, gint64 *ret_size, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  *ret_size = fd >= 0 ? lseek (fd, 0, SEEK_END) : -1;
  int errnum = errno;
  if (fd >= 0)
    close (fd);
  return *ret_size >= 0 || fail_errno (error, errnum, "open '%s'", path);
}

Json *
offer_lent (Op *op, GError **error)
{
  OpDisk *disk = op_disk (op, 0);
  gint64 size = 0;
  g_autofree char *stamp = file_stamp (disk->to);
  Json *planned = json_get (disk->details, "offer");
  if (planned == NULL || (op->lent != NULL && !find_size (disk->to, &size, error)))
    return NULL;
  g_autofree char *text = json_line (planned);
  Json *offer = json_parse (text, -1);
  if (op->lent != NULL) {
    json_set (offer, "reads", json_str (disk->to));
    json_set (offer, "size", json_int (size));
    json_set (offer, "stamp", json_str (stamp));
  }
  return offer;
}
