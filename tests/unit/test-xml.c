/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The XML documents: what they say, and what is refused, with file, line and what was expected. */
#include "tests/unit/unit.h"

#include "src/common/error.h"
#include "src/common/merge-xml.h"
#include "src/common/snapshot-xml.h"
#include "src/common/volume-xml.h"
#include "src/common/xml.h"

#include <glib/gstdio.h>
#include <sys/stat.h>

static SnapshotXml *
read_snapshot (const char *text)
{
  g_autoptr (GError) error = NULL;
  SnapshotXml *snapshot = snapshot_xml_parse (text, strlen (text), "s.xml", &error);
  if (snapshot == NULL)
    fail_test ("%s", error->message);
  return snapshot;
}

static void
assert_refused (const char *text, gsize length, const char *words, const char *expected)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (SnapshotXml) snapshot = snapshot_xml_parse (text, length, "s.xml", &error);
  assert_null (snapshot);
  assert_error (error, USAGE, words);
  if (!g_str_has_prefix (error->message, "s.xml"))
    fail_test ("'%s' does not begin with the file", error->message);
  if (expected != NULL && g_strcmp0 (rechain_error_get_hint (error), expected) != 0)
    fail_test ("hint '%s' and not '%s'", rechain_error_get_hint (error), expected);
}

/* ---- what documents say ---------------------------------------------------------------------- */

static void
a_snapshot_is_read (void **state)
{
  g_autoptr (SnapshotXml) snapshot =
      read_snapshot ("<?xml version='1.0' encoding='utf-8'?>\n<!-- mine -->\n"
                     "<domainsnapshot><description>before &lt;all&gt; &#x41;</description>\n"
                     "<name> tmpsnap </name>\n<creationTime>1700000000</creationTime>"
                     "<parent><name>older</name></parent>\n<disks>\n"
                     "<disk name='vda' snapshot='external' method='qemu'>"
                     "<source file='/img/current2'/><driver type='qcow2'/>"
                     "<on_delete merge='forward'/></disk>\n"
                     "<disk name='vdb' snapshot='no'/>\n"
                     "<disk name='vdc'><diskSnapshot method='lvm'><device path='/dev/vg/lv4'/>"
                     "</diskSnapshot></disk>\n"
                     "<disk name='vdd'><source>\n /img/d, with \"odd\" name \n</source></disk>"
                     "</disks></domainsnapshot>");
  assert_string_equal (snapshot->name, "tmpsnap");
  assert_string_equal (snapshot->description, "before <all> A");
  assert_string_equal (snapshot->parent, "older");
  assert_int_equal (snapshot->created, 1700000000);
  assert_int_equal (snapshot->disks->len, 4);
  SnapshotXmlDisk **disks = (SnapshotXmlDisk **)snapshot->disks->pdata;
  assert_string_equal (disks[0]->source, "/img/current2");
  assert_string_equal (disks[0]->format, "qcow2");
  assert_string_equal (disks[0]->on_delete, "forward");
  assert_string_equal (disks[0]->method, "qemu");
  assert_true (disks[1]->left_out);
  assert_string_equal (disks[2]->method, "lvm");
  assert_string_equal (disks[2]->device, "/dev/vg/lv4");
  assert_string_equal (disks[3]->source, "/img/d, with \"odd\" name");
}

static void
what_is_written_is_read_again (void **state)
{
  g_autoptr (SnapshotXml) snapshot = snapshot_xml_new ();
  snapshot->name = g_strdup ("a<b>&'\"c");
  snapshot->description = g_strdup ("zwei\nZeilen, äöü");
  snapshot->created = 5;
  SnapshotXmlDisk *disk = snapshot_xml_add_disk (snapshot, "vda");
  disk->source = g_strdup ("/img/a\"b'c<d>\n\te.qcow2");
  disk->backing = g_strdup ("/img/old & grey");
  disk->backing_format = g_strdup ("raw");
  disk->on_delete = g_strdup ("backward");
  snapshot_xml_add_disk (snapshot, "vdb")->left_out = TRUE;
  g_autofree char *text = snapshot_xml_print (snapshot, NULL);
  g_autoptr (SnapshotXml) again = read_snapshot (text);
  SnapshotXmlDisk *disk_again = again->disks->pdata[0];
  assert_string_equal (again->name, snapshot->name);
  assert_string_equal (again->description, snapshot->description);
  assert_int_equal (again->created, 5);
  assert_string_equal (disk_again->source, disk->source);
  assert_string_equal (disk_again->backing, disk->backing);
  assert_string_equal (disk_again->backing_format, "raw");
  assert_true (((SnapshotXmlDisk *)again->disks->pdata[1])->left_out);
}

static void
what_xml_cannot_hold_is_not_written (void **state)
{
  static const char *const texts[] = {"/img/\x01", "/img/\xff\xfe", "\x1b[31m"};
  for (gsize i = 0; i < G_N_ELEMENTS (texts); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (SnapshotXml) snapshot = snapshot_xml_new ();
    snapshot_xml_add_disk (snapshot, "vda")->source = g_strdup (texts[i]);
    assert_null (snapshot_xml_print (snapshot, &error));
    assert_error (error, FAILED, "<source> cannot be written as XML");
  }
}

static void
a_merge_is_read (void **state)
{
  static const char text[] = "<merge><dest file='/b'/><source>/a</source></merge>";
  g_autoptr (MergeXml) merge = merge_xml_parse (text, strlen (text), "m.xml", NULL);
  assert_non_null (merge);
  assert_string_equal (merge->source, "/a");
  assert_string_equal (merge->dest, "/b");
}

static void
a_volume_is_read (void **state)
{
  static const char text[] =
      "<volume type='file'><name>clone.qcow2</name><capacity unit='GiB'>20</capacity>"
      "<allocation>0</allocation><target><path>/img/clone.qcow2</path><format type='qcow2'/>"
      "<permissions><mode>0600</mode><owner>0</owner><group>107</group></permissions></target>"
      "<backingStore><path>/img/t.qcow2</path><format type='qcow2'/></backingStore></volume>";
  g_autoptr (VolumeXml) volume = volume_xml_parse (text, strlen (text), "v.xml", NULL);
  assert_non_null (volume);
  assert_string_equal (volume->name, "clone.qcow2");
  assert_true (volume->has_capacity && volume->has_allocation);
  assert_int_equal (volume->capacity, 20ull << 30);
  assert_int_equal (volume->allocation, 0);
  assert_string_equal (volume->path, "/img/clone.qcow2");
  assert_string_equal (volume->format, "qcow2");
  assert_int_equal (volume->mode, 0600);
  assert_int_equal (volume->owner, 0);
  assert_int_equal (volume->group, 107);
  assert_string_equal (volume->backing_path, "/img/t.qcow2");
  assert_string_equal (volume->backing_format, "qcow2");
}

static void
capacities_have_libvirts_units (void **state)
{
  static const struct {
    const char *unit, *number;
    guint64 bytes; /* 0: refused */
  } rows[] = {
      {NULL, "4096", 4096}, {"bytes", "5", 5},    {"B", "5", 5},
      {"K", "1", 1024},     {"KiB", "1", 1024},   {"KB", "1", 1000},
      {"M", "2", 2 << 20},  {"MB", "2", 2000000}, {"TiB", "1", 1ull << 40},
      {"P", "9000", 0},     {"XB", "1", 0},       {NULL, "99999999999999999999", 0},
      {NULL, "-1", 0},      {NULL, "1.5", 0},     {NULL, "", 0},
      {"GiB", "0x10", 0},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *unit =
        rows[i].unit ? g_strdup_printf (" unit='%s'", rows[i].unit) : g_strdup ("");
    g_autofree char *text =
        g_strdup_printf ("<volume><capacity%s>%s</capacity></volume>", unit, rows[i].number);
    g_autoptr (VolumeXml) volume = volume_xml_parse (text, strlen (text), "v.xml", &error);
    if (rows[i].bytes == 0) {
      assert_null (volume);
      assert_error (error, USAGE, "v.xml:1: ");
    } else {
      assert_non_null (volume);
      assert_int_equal (volume->capacity, rows[i].bytes);
    }
  }
}

/* ---- what does not fit ----------------------------------------------------------------------- */

static void
what_does_not_fit_is_told_with_its_line (void **state)
{
  static const struct {
    const char *text, *words, *expected;
  } rows[] = {
      {"<snapshot/>", "s.xml:1: the document is a <snapshot> and not a <domainsnapshot>", NULL},
      {"<domainsnapshot>\n<disk name='vda'/></domainsnapshot>",
       "s.xml:2: <disk> cannot stand in <domainsnapshot>",
       "expected: name, description, state, creationTime, parent, disks"},
      {"<domainsnapshot>\n<name>a</name>\n<name>b</name></domainsnapshot>",
       "s.xml:3: <domainsnapshot> has a second <name>", NULL},
      {"<domainsnapshot><name> </name></domainsnapshot>", "<name> is empty", "expected: some text"},
      {"<domainsnapshot><disks>\n\n<disk/></disks></domainsnapshot>",
       "s.xml:3: <disk> lacks the attribute 'name'", NULL},
      {"<domainsnapshot><disks><disk name='a' kind='b'/></disks></domainsnapshot>",
       "<disk> cannot have the attribute 'kind'", "it can have: name, snapshot, method, type"},
      {"<domainsnapshot><disks><disk name='a' snapshot='yes'/></disks></domainsnapshot>",
       "attribute 'snapshot' of <disk> is 'yes'", "expected: external, no, internal, manual"},
      {"<domainsnapshot><disks><disk name='a'><on_delete merge='up'/></disk></disks>"
       "</domainsnapshot>",
       "attribute 'merge' of <on_delete> is 'up'", "expected: forward, backward"},
      {"<domainsnapshot><disks><disk name='a'><source/></disk></disks></domainsnapshot>",
       "<source> says nothing", "expected is one of: attribute file, attribute dev, text"},
      {"<domainsnapshot><disks><disk name='a'><source file='/a'>/b</source></disk></disks>"
       "</domainsnapshot>",
       "<source> says it twice", NULL},
      {"<domainsnapshot><disks><disk name='a'><driver type='qcow2,x'/></disk></disks>"
       "</domainsnapshot>",
       "attribute 'type' of <driver> is 'qcow2,x'", "expected: the name of an image format"},
      {"<domainsnapshot><disks>vda</disks></domainsnapshot>", "<disks> cannot hold text", NULL},
      {"<domainsnapshot xmlns='urn:other'/>", "and not a <domainsnapshot>", NULL},
      {"<domainsnapshot><creationTime>now</creationTime></domainsnapshot>",
       "<creationTime> is 'now'", "expected: a whole number"},
      {"<domainsnapshot><creationTime>99999999999999</creationTime></domainsnapshot>",
       "'99999999999999' is no time", NULL},
      {"<domainsnapshot><disks><disk name='a'/>\n<disk name='a'/></disks></domainsnapshot>",
       "s.xml:2: disk 'a' is named twice", NULL},
      {"<domainsnapshot><disks><disk name='a'><source file='b.img'/></disk></disks>"
       "</domainsnapshot>",
       "'b.img' is no absolute path", NULL},
      {"<domainsnapshot><disks><disk name='a' snapshot='no'><source file='/b'/></disk></disks>"
       "</domainsnapshot>",
       "no <source> for it", NULL},
      {"<domainsnapshot><disks><disk name='a' method='qemu'><diskSnapshot method='lvm'/></disk>"
       "</disks></domainsnapshot>",
       "two methods", NULL},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    assert_refused (rows[i].text, strlen (rows[i].text), rows[i].words, rows[i].expected);
}

static void
other_kinds_of_snapshots_are_refused (void **state)
{
  static const char text[] =
      "<domainsnapshot><disks><disk name='a' snapshot='internal'/></disks></domainsnapshot>";
  g_autoptr (GError) error = NULL;
  assert_null (snapshot_xml_parse (text, strlen (text), "s.xml", &error));
  assert_error (error, REFUSED, "'internal' is not what rechain makes");
}

/* ---- hostile ones ---------------------------------------------------------------------------- */

static void
malformed_documents_are_refused (void **state)
{
  static const char *const rows[] = {"",
                                     " ",
                                     "<",
                                     "<domainsnapshot>",
                                     "<domainsnapshot/><domainsnapshot/>",
                                     "<domainsnapshot>&nbsp;</domainsnapshot>",
                                     "<domainsnapshot a='1' a='2'/>",
                                     "<domainsnapshot>\x01</domainsnapshot>",
                                     "<domainsnapshot>&#0;</domainsnapshot>",
                                     "{\"name\":\"json\"}",
                                     "<domainsnapshot><name>a</domainsnapshot></name>"};
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    assert_refused (rows[i], strlen (rows[i]), "s.xml", NULL);
  assert_refused ("<domainsnapshot>\0</domainsnapshot>", 34, "s.xml", NULL);
}

static void
document_types_are_refused_unread (void **state)
{
  static const char *const rows[] = {
      /* XXE: the file must not even be opened */
      "<!DOCTYPE domainsnapshot [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>\n"
      "<domainsnapshot><name>&x;</name></domainsnapshot>",
      "<!DOCTYPE domainsnapshot SYSTEM 'http://127.0.0.1:9/x.dtd'><domainsnapshot/>",
      "<!DOCTYPE domainsnapshot PUBLIC '-//x//y' '/dev/zero'><domainsnapshot/>",
      "<!DOCTYPE d [<!ENTITY % p SYSTEM 'file:///dev/zero'> %p;]><domainsnapshot/>",
      "<!DOCTYPE domainsnapshot><domainsnapshot/>",
      /* a billion laughs */
      "<!DOCTYPE d [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>"
      "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;'>"
      "<!ENTITY e '&d;&d;&d;&d;&d;&d;&d;&d;'><!ENTITY f '&e;&e;&e;&e;&e;&e;&e;&e;'>]>"
      "<domainsnapshot><name>&f;</name></domainsnapshot>",
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    assert_refused (rows[i], strlen (rows[i]), "document type (<!DOCTYPE ...>) is not allowed",
                    NULL);
}

static void
an_external_entity_is_never_opened (void **state)
{
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *fifo = g_build_filename (dir, "fifo", NULL);
  g_autofree char *text = g_strdup_printf ("<!DOCTYPE d [<!ENTITY x SYSTEM 'file://%s'>]>"
                                           "<domainsnapshot><name>&x;</name></domainsnapshot>",
                                           fifo);
  assert_int_equal (mkfifo (fifo, 0600), 0); /* whoever opens it waits for ever */
  assert_refused (text, strlen (text), "is not allowed", NULL);
  g_unlink (fifo);
  g_rmdir (dir);
}

static void
wrong_encodings_are_refused (void **state)
{
  static const char latin[] = "<?xml version='1.0'?>\n<domainsnapshot><name>\xe4</name>";
  static const char utf16[] = "\xff\xfe<\0d\0/\0>\0";
  static const char lies[] =
      "<?xml version='1.0' encoding='ISO-8859-1'?><domainsnapshot><name>\xc3\xa4</name>"
      "</domainsnapshot>";
  static const char unknown[] = "<?xml version='1.0' encoding='klingon'?><domainsnapshot/>";
  static const char utf7[] = "<?xml version='1.0' encoding='UTF-7'?>+ADw-domainsnapshot+AD4-";
  assert_refused (latin, sizeof latin - 1, "s.xml:2: this is not UTF-8 text", NULL);
  assert_refused (utf16, sizeof utf16 - 1, "s.xml:1: this is not UTF-8 text", NULL);
  assert_refused (lies, sizeof lies - 1, "its encoding is 'ISO-8859-1'", NULL);
  assert_refused (unknown, sizeof unknown - 1, "s.xml:1: ", NULL);
  assert_refused (utf7, sizeof utf7 - 1, "s.xml:1: ", NULL);
}

static void
a_byte_order_mark_does_no_harm (void **state)
{
  g_autoptr (SnapshotXml) snapshot =
      read_snapshot ("\xef\xbb\xbf<domainsnapshot><name>a</name></domainsnapshot>");
  assert_string_equal (snapshot->name, "a");
}

static void
oversized_documents_are_refused (void **state)
{
  g_autofree char *name = g_strnfill (10 << 20, 'x');
  g_autofree char *text =
      g_strdup_printf ("<domainsnapshot><name>%s</name></domainsnapshot>", name);
  assert_refused (text, strlen (text), "over 1 MiB", NULL);
}

static void
deep_documents_are_refused (void **state)
{
  static const guint depths[] = {33, 200, 5000};
  for (gsize i = 0; i < G_N_ELEMENTS (depths); i++) {
    g_autoptr (GString) text = g_string_new (NULL);
    for (guint k = 0; k < depths[i]; k++)
      g_string_append (text, "<domainsnapshot>");
    for (guint k = 0; k < depths[i]; k++)
      g_string_append (text, "</domainsnapshot>");
    assert_refused (text->str, text->len, "s.xml:1: ", NULL);
  }
}

/* Disks of different names, so that nothing but their number is wrong. */
static char *
document_with (guint n_disks)
{
  g_autoptr (GString) text = g_string_new ("<domainsnapshot><disks>");
  for (guint i = 0; i < n_disks; i++)
    g_string_append_printf (text, "<disk name='%u'/>", i);
  g_string_append (text, "</disks></domainsnapshot>");
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static void
documents_with_too_many_elements_are_refused (void **state)
{
  g_autofree char *full = document_with (1024);
  g_autofree char *over = document_with (1025);
  g_autofree char *far_over = document_with (45000);
  g_autoptr (SnapshotXml) snapshot = read_snapshot (full);
  assert_int_equal (snapshot->disks->len, 1024);
  assert_refused (over, strlen (over), "more than 1024 disks", NULL);
  assert_refused (far_over, strlen (far_over), "more than 8192 elements", NULL);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void
files_are_read_to_their_limit_and_no_further (void **state)
{
  g_autoptr (GError) error = NULL;
  assert_null (merge_from_xml ("/dev/zero", &error));
  assert_error (error, USAGE, "/dev/zero: the document is over 1 MiB");
  g_clear_error (&error);
  assert_null (merge_from_xml ("/nowhere/m.xml", &error));
  assert_error (error, NOT_FOUND, "/nowhere/m.xml");
  g_clear_error (&error);
  assert_null (volume_from_xml ("/", &error));
  assert_error (error, FAILED, "read the document '/'");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (a_snapshot_is_read),
      cmocka_unit_test (what_is_written_is_read_again),
      cmocka_unit_test (what_xml_cannot_hold_is_not_written),
      cmocka_unit_test (a_merge_is_read),
      cmocka_unit_test (a_volume_is_read),
      cmocka_unit_test (capacities_have_libvirts_units),
      cmocka_unit_test (what_does_not_fit_is_told_with_its_line),
      cmocka_unit_test (other_kinds_of_snapshots_are_refused),
      cmocka_unit_test (malformed_documents_are_refused),
      cmocka_unit_test (document_types_are_refused_unread),
      cmocka_unit_test (an_external_entity_is_never_opened),
      cmocka_unit_test (wrong_encodings_are_refused),
      cmocka_unit_test (a_byte_order_mark_does_no_harm),
      cmocka_unit_test (oversized_documents_are_refused),
      cmocka_unit_test (deep_documents_are_refused),
      cmocka_unit_test (documents_with_too_many_elements_are_refused),
      cmocka_unit_test (files_are_read_to_their_limit_and_no_further),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
