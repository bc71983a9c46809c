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
  FileId id;
  struct stat st;
  Json *is = NULL;
  g_autofree char *uuid = lv_uuid (path);
  int fd = open (path, O_PATH | O_CLOEXEC);
  if (fd < 0)
    return NULL;
  if (fstat (fd, &st) == 0 && S_ISBLK (st.st_mode))
    is = json_make ("device", json_int ((gint64)st.st_rdev), "uuid", json_str (uuid), NULL);
  else if (file_identify_fd (fd, path, &id))
    is = file_id_to_json (id);
  close (fd);
  return is;
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
  return file_id_equal (file_id_from_json (now), file_id_from_json (id));
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
