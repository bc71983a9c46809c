/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/volume-id.h"

#include "jobs/lv.h"
#include "src/common/error.h"
#include "src/common/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

Json *
volume_id_of (const char *path)
{
  struct stat st;
  if (stat (path, &st) != 0)
    return NULL;
  g_autofree char *uuid = lv_uuid (path);
  if (S_ISBLK (st.st_mode))
    return json_make ("device", json_int ((gint64)st.st_rdev), "uuid", json_str (uuid), NULL);
  return json_make ("dev", json_int ((gint64)st.st_dev), "ino", json_int ((gint64)st.st_ino), NULL);
}

static FileId
file_id_of (Json *id)
{
  return (FileId){.dev = (guint64)json_get_int (id, "dev"),
                  .ino = (guint64)json_get_int (id, "ino")};
}

gboolean
volume_id_is (const char *path, Json *id)
{
  g_autoptr (Json) now = volume_id_of (path);
  const char *uuid = json_get_str (id, "uuid");
  if (now == NULL)
    return FALSE;
  if (uuid != NULL) /* after a reboot it may have another number */
    return g_strcmp0 (json_get_str (now, "uuid"), uuid) == 0;
  if (!json_has (now, "ino") || !json_has (id, "ino"))
    return json_object_equal (now, id);
  return file_id_equal (file_id_of (now), file_id_of (id));
}

/* Who has mounted it, or made another device of it, has it for himself. */
static gboolean
is_claimed (const char *path)
{
  int fd = open (path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
  gboolean claimed = fd < 0 && errno == EBUSY;
  if (fd >= 0)
    close (fd);
  return claimed;
}

gboolean
volume_is_free (const char *path, Json *id, GError **error)
{
  if (!volume_id_is (path, id))
    return fail (error, REFUSED, "'%s' is another file now", path);
  if (file_is_locked (path) || (json_has (id, "device") && is_claimed (path)))
    return fail (error, REFUSED, "'%s' was opened by a process meanwhile", path);
  return TRUE;
}
