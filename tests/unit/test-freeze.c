/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations that freeze the guest: whatever happens, it is frozen around the snapshot only, and
 * thawed in the end. */
#include "tests/unit/unit.h"

#include "tests/unit/bad-disk.h"
#include "tests/unit/fake-agent.h"
#include "tests/unit/ops.h"
#include "tests/unit/scene.h"

#include "src/common/error.h"

#define FREEZE "guest-fsfreeze-freeze"
#define THAW   "guest-fsfreeze-thaw"

typedef struct {
  Scene s;
  FakeAgent *agent;
  guint frozen_changes;  /* commands that changed something while it was frozen */
  guint commands_before; /* QMP commands when the first thaw came */
} Guest;

static void
before_change (Model *model, const char *command, Json *arguments, gpointer data)
{
  Guest *guest = data;
  guest->frozen_changes += guest->agent->frozen;
  if (g_str_equal (command, "transaction"))
    assert_true (guest->agent->frozen || (guest->s.op->flags & OP_BEST_EFFORT));
  else
    assert_false (guest->agent->frozen);
}

static void
before_agent (FakeAgent *agent, const char *command, gpointer data)
{
  Guest *guest = data;
  if (g_str_equal (command, THAW) && guest->commands_before == 0)
    guest->commands_before = guest->s.model->commands;
}

static void
begin (Guest *guest, OpKind kind, guint n_disks)
{
  *guest = (Guest){0};
  scene_begin (&guest->s, kind, n_disks);
  g_autofree char *path = g_build_filename (guest->s.dir, "qga", NULL);
  guest->s.op->agent = g_strdup (path);
  guest->s.op->flags |= OP_QUIESCED;
  guest->agent = fake_agent_new (path);
  guest->agent->hook = before_agent;
  guest->agent->data = guest;
  guest->s.model->hook = before_change;
  guest->s.model->data = guest;
}

static void
end (Guest *guest)
{
  fake_agent_free (guest->agent);
  guest->s.model->hook = NULL;
  scene_end (&guest->s);
}

/* ---- the normal course ----------------------------------------------------------------------- */

static void
the_guest_is_frozen_around_the_transaction_and_nothing_else (void **state)
{
  static const OpKind kinds[] = {OP_SNAPSHOT, OP_MOVE};
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++) {
    Guest guest;
    begin (&guest, kinds[i], 2);
    scene_run (&guest.s);
    scene_check_is (&guest.s, OP_DONE);
    assert_int_equal (guest.frozen_changes, 1);
    assert_int_equal (guest.agent->log->len, 2);
    assert_false (guest.agent->frozen || guest.s.op->frozen);
    assert_int_equal (guest.s.op->filesystems, 3);
    assert_true (guest.s.op->freeze_us > 0 && guest.s.op->freeze_us < 5 * G_USEC_PER_SEC);
    end (&guest);
  }
}

static void
without_being_asked_to_nobody_freezes (void **state)
{
  Guest guest;
  begin (&guest, OP_SNAPSHOT, 1);
  guest.s.op->flags = OP_BEST_EFFORT;
  scene_run (&guest.s);
  scene_check_is (&guest.s, OP_DONE);
  assert_int_equal (guest.agent->connections, 0);
  assert_int_equal (guest.s.op->freeze_us, 0);
  end (&guest);
}

static void
that_it_may_be_frozen_is_on_record_before_it_is_asked_for (void **state)
{
  Guest guest;
  begin (&guest, OP_SNAPSHOT, 1);
  guest.agent->silent = FREEZE;
  scene_start (&guest.s);
  until (fake_agent_asked (guest.agent, FREEZE) == 1);
  g_autoptr (Journal) journal = journal_open_to_read (guest.s.dir, NULL);
  g_autoptr (Op) op = journal_load (journal, guest.s.op->id, NULL);
  assert_true (op->frozen);
  assert_true (scene_journal_has (&guest.s, "intent", FREEZE));
  g_clear_pointer (&journal, journal_close);
  scene_kill (&guest.s);
  guest.agent->silent = NULL;
  scene_recover (&guest.s, RUN_BY_RECORD);
  scene_check_is (&guest.s, OP_UNDONE);
  end (&guest);
}

/* ---- the agent fails ------------------------------------------------------------------------- */

static void
a_freeze_that_is_refused_or_not_answered_is_undone (void **state)
{
  for (guint i = 0; i < 4; i++) {
    Guest guest;
    begin (&guest, OP_MOVE, 1);
    guest.s.op->max_freeze_ms = 200;
    const char **mishaps[] = {&guest.agent->refuse, &guest.agent->silent, &guest.agent->hang_up,
                              &guest.agent->garble};
    *mishaps[i] = FREEZE;
    guest.agent->answer = "{\"return\":[[[[";
    guest.agent->after = i == 1;
    scene_run (&guest.s);
    scene_check_is (&guest.s, OP_UNDONE);
    assert_error (guest.s.op->error, UNDONE, FREEZE);
    if (i == 0)
      assert_string_equal (rechain_error_get_cause (guest.s.op->error), "the agent's own words");
    assert_int_equal (model_asked (guest.s.model, "transaction"), 0);
    assert_true (fake_agent_asked (guest.agent, THAW) >= 1);
    assert_false (guest.agent->frozen);
    end (&guest);
  }
}

static void
in_best_effort_a_refused_freeze_does_not_matter_and_is_told (void **state)
{
  Guest guest;
  begin (&guest, OP_SNAPSHOT, 1);
  guest.s.op->flags |= OP_BEST_EFFORT;
  guest.agent->refuse = FREEZE;
  scene_run (&guest.s);
  scene_check_is (&guest.s, OP_DONE);
  assert_int_equal (guest.s.op->filesystems, -1);
  assert_int_equal (guest.s.op->freeze_us, 0);
  assert_true (scene_journal_has (&guest.s, "note", "the agent's own words"));
  end (&guest);
}

static void
a_thaw_is_asked_again_over_a_new_connection (void **state)
{
  Guest guest;
  begin (&guest, OP_MOVE, 1);
  guest.agent->hang_up = THAW;
  guest.agent->times = 1;
  scene_run (&guest.s);
  scene_check_is (&guest.s, OP_DONE);
  assert_int_equal (guest.agent->connections, 2);
  assert_false (guest.agent->frozen);
  end (&guest);
}

static void
a_guest_that_cannot_be_thawed_is_told_and_thawed_by_recovery (void **state)
{
  Guest guest;
  begin (&guest, OP_SNAPSHOT, 1);
  guest.s.model->hook = NULL;
  guest.agent->hang_up = THAW;
  scene_run (&guest.s);
  assert_int_equal (guest.s.op->state, OP_STUCK);
  assert_true (guest.s.op->frozen && guest.agent->frozen);
  assert_non_null (strstr (rechain_error_get_hint (guest.s.op->error), "rechain thaw"));
  guest.agent->hang_up = NULL;
  scene_recover (&guest.s, RUN_BY_RECORD);
  scene_check_is (&guest.s, OP_DONE);
  assert_false (guest.agent->frozen);
  end (&guest);
}

/* ---- QEMU fails ------------------------------------------------------------------------------ */

static void
when_the_transaction_fails_the_guest_is_thawed_before_anything_else (void **state)
{
  Guest guest;
  begin (&guest, OP_SNAPSHOT, 2);
  guest.s.model->refuse = "transaction";
  guest.s.model->refuse_times = 1;
  scene_run (&guest.s);
  scene_check_is (&guest.s, OP_UNDONE);
  assert_false (guest.agent->frozen);
  end (&guest);
}

static void
when_the_monitor_is_cut_the_guest_is_thawed_before_it_is_connected_again (void **state)
{
  for (guint after = 0; after < 2; after++) {
    Guest guest;
    begin (&guest, OP_MOVE, 1);
    guest.s.model->cut_at = 2; /* blockdev-add, transaction */
    guest.s.model->cut_after = after != 0;
    scene_run (&guest.s);
    scene_check_is (&guest.s, OP_UNDONE);
    assert_int_equal (guest.commands_before, 2);
    assert_false (guest.agent->frozen);
    end (&guest);
  }
}

static void
slow_down (Model *model, const char *command, Json *arguments, gpointer data)
{
  if (g_str_equal (command, "transaction"))
    g_usleep (100 * 1000);
}

static void
a_freeze_that_lasts_too_long_is_thawed_and_the_snapshot_taken_back (void **state)
{
  static const OpKind kinds[] = {OP_SNAPSHOT, OP_MOVE};
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++) {
    Guest guest;
    begin (&guest, kinds[i], 1);
    guest.s.op->max_freeze_ms = 50;
    guest.s.model->hook = slow_down;
    scene_run (&guest.s);
    scene_check_is (&guest.s, OP_UNDONE);
    assert_error (guest.s.op->error, UNDONE, "frozen for longer than 50 ms");
    assert_int_equal (fake_agent_asked (guest.agent, THAW), 1);
    assert_false (guest.agent->frozen);
    end (&guest);
  }
}

/* ---- we fail --------------------------------------------------------------------------------- */

static void
kill_it (Model *model, const char *command, Json *arguments, gpointer data)
{
  Guest *guest = data;
  if (g_str_equal (command, "transaction") && guest->s.runner != NULL) {
    bad_disk_breaks (BAD_DISK_WRITE, 0);
    runner_detach (guest->s.runner, TRUE);
  }
}

static void
recovery_thaws_before_it_asks_qemu_anything (void **state)
{
  static const OpKind kinds[] = {OP_SNAPSHOT, OP_MOVE};
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++) {
    Guest guest;
    begin (&guest, kinds[i], 1);
    guest.s.model->hook = kill_it;
    scene_start (&guest.s);
    until (guest.s.ended > 0);
    scene_kill (&guest.s);
    assert_true (guest.agent->frozen);
    guest.s.model->hook = NULL;
    guest.s.model->commands = 0;
    guest.commands_before = 0;
    guint sent = guest.s.model->commands;
    scene_recover (&guest.s, RUN_BY_RECORD);
    scene_check_is (&guest.s, kinds[i] == OP_SNAPSHOT ? OP_DONE : OP_UNDONE);
    assert_int_equal (guest.commands_before, sent);
    assert_false (guest.agent->frozen);
    assert_true (guest.s.op->freeze_us > 0);
    end (&guest);
  }
}

static void
break_the_journal (Model *model, const char *command, Json *arguments, gpointer data)
{
  if (g_str_equal (command, "transaction"))
    bad_disk_breaks (BAD_DISK_WRITE, 0);
}

static void
a_journal_that_cannot_be_written_leaves_nobody_frozen (void **state)
{
  Guest guest;
  begin (&guest, OP_MOVE, 1);
  guest.s.model->hook = break_the_journal;
  scene_run (&guest.s);
  assert_int_equal (guest.s.op->state, OP_STUCK);
  assert_false (guest.agent->frozen);
  bad_disk_mend ();
  guest.s.model->hook = NULL;
  scene_recover (&guest.s, RUN_BY_RECORD);
  scene_check_is (&guest.s, OP_UNDONE);
  end (&guest);
}

/* ---- quiesce as an operation of its own ------------------------------------------------------ */

static void
a_quiesce_leaves_the_guest_frozen (void **state)
{
  Guest guest;
  begin (&guest, OP_QUIESCE, 0);
  scene_run (&guest.s);
  assert_int_equal (guest.s.op->state, OP_DONE);
  assert_true (guest.agent->frozen);
  assert_int_equal (guest.s.op->filesystems, 3);
  assert_int_equal (guest.agent->log->len, 1);
  end (&guest);
}

static void
a_quiesce_that_is_refused_is_undone (void **state)
{
  for (guint i = 0; i < 2; i++) {
    Guest guest;
    begin (&guest, OP_QUIESCE, 0);
    guest.s.op->max_freeze_ms = 100;
    *(i ? &guest.agent->silent : &guest.agent->refuse) = FREEZE;
    guest.agent->after = i == 1;
    scene_run (&guest.s);
    assert_int_equal (guest.s.op->state, OP_UNDONE);
    assert_false (guest.agent->frozen);
    end (&guest);
  }
}

static void
a_quiesce_that_was_killed_is_thawed_by_recovery (void **state)
{
  Guest guest;
  begin (&guest, OP_QUIESCE, 0);
  guest.agent->silent = FREEZE;
  guest.agent->after = TRUE;
  scene_start (&guest.s);
  until (guest.agent->frozen);
  scene_kill (&guest.s);
  guest.agent->silent = NULL;
  scene_recover (&guest.s, RUN_BY_RECORD);
  assert_int_equal (guest.s.op->state, OP_UNDONE);
  assert_false (guest.agent->frozen);
  end (&guest);
}

static void
on_quiesce_ended (Runner *runner, gpointer data)
{
  ++*(guint *)data;
}

static void
an_interrupted_quiesce_ends_with_its_qemu (void **state)
{
  Guest guest;
  g_autoptr (GError) error = NULL;
  begin (&guest, OP_QUIESCE, 0);
  guest.agent->silent = FREEZE;
  scene_start (&guest.s);
  until (fake_agent_asked (guest.agent, FREEZE) == 1);
  scene_kill (&guest.s);
  g_autoptr (Journal) journal = journal_open (guest.s.dir, NULL);
  Op *op = journal_load (journal, OP_ID, NULL);
  op_forget_qemu (op);
  guint told = 0;
  g_autoptr (Runner) runner =
      runner_new (op, journal_open (guest.s.dir, NULL), guest.s.dir, NULL, NULL);
  assert_true (runner_recover (runner, RUN_BY_RECORD, on_quiesce_ended, NULL, &told, &error));
  until (told > 0);
  assert_null (error);
  g_autoptr (Op) ended = journal_load (journal, OP_ID, NULL);
  assert_int_equal (ended->state, OP_UNDONE);
  assert_false (ended->frozen);
  assert_int_equal (journal_owner (journal, OP_ID, NULL), OWNER_NONE);
  g_clear_pointer (&runner, runner_unref);
  g_clear_pointer (&journal, journal_close);
  end (&guest);
}

static void
note_it (gpointer data)
{
  ++*(guint *)data;
}

static void
a_guest_is_thawed_although_its_monitor_cannot_be_reached (void **state)
{
  Guest guest;
  guint told = 0;
  begin (&guest, OP_SNAPSHOT, 1);
  Op *op = guest.s.op;
  runner_thaw_op (op, note_it, &told);
  assert_int_equal (told, 1); /* nothing is frozen: at once */
  op->frozen = guest.agent->frozen = TRUE;
  op->frozen_at_us = g_get_real_time () - 2 * G_USEC_PER_SEC;
  runner_thaw_op (op, note_it, &told);
  until (told == 2);
  assert_false (op->frozen || guest.agent->frozen);
  assert_true (op->freeze_us >= 2 * G_USEC_PER_SEC);
  op->frozen = TRUE;
  guest.agent->hang_up = THAW;
  runner_thaw_op (op, note_it, &told);
  until (told == 3);
  assert_true (op->frozen); /* recovery tries again */
  end (&guest);
}

/* ---- every mishap at every command ----------------------------------------------------------- */

typedef enum { REFUSED_AT, CUT_AT, CUT_AFTER, KILLED_AT, N_MISHAPS } Mishap;

static guint kill_at;

static void
kill_at_change (Model *model, const char *command, Json *arguments, gpointer data)
{
  Guest *guest = data;
  if (model->changes + 1 != kill_at || guest->s.runner == NULL || guest->s.ended > 0)
    return;
  bad_disk_breaks (BAD_DISK_WRITE, 0);
  runner_detach (guest->s.runner, TRUE);
}

/* FALSE: the operation has fewer changes than @k. */
static gboolean
survives (OpKind kind, Mishap mishap, guint k)
{
  Guest guest;
  begin (&guest, kind, 1);
  Model *model = guest.s.model;
  model->hook = NULL;
  if (mishap == REFUSED_AT)
    model->refuse_change = k;
  else if (mishap == KILLED_AT) {
    kill_at = k;
    model->hook = kill_at_change;
  } else {
    model->cut_at = k;
    model->cut_after = mishap == CUT_AFTER;
  }
  scene_start (&guest.s);
  until (guest.s.ended > 0);
  gboolean met = mishap == KILLED_AT ? runner_was_detached (guest.s.runner) : model->changes >= k;
  model->hook = NULL;
  if (mishap == KILLED_AT && met) {
    scene_kill (&guest.s);
    scene_recover (&guest.s, RUN_BY_RECORD);
  }
  if (guest.s.op->state != OP_DONE)
    scene_check_is (&guest.s, OP_UNDONE);
  else
    scene_check (&guest.s);
  assert_false (guest.agent->frozen || guest.s.op->frozen);
  end (&guest);
  return met;
}

static void
whatever_happens_at_whatever_command_the_guest_is_thawed (void **state)
{
  static const OpKind kinds[] = {OP_SNAPSHOT, OP_MOVE};
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++)
    for (Mishap mishap = 0; mishap < N_MISHAPS; mishap++)
      for (guint k = 1; k <= 4 && survives (kinds[i], mishap, k); k++)
        ;
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (the_guest_is_frozen_around_the_transaction_and_nothing_else),
      cmocka_unit_test (without_being_asked_to_nobody_freezes),
      cmocka_unit_test (that_it_may_be_frozen_is_on_record_before_it_is_asked_for),
      cmocka_unit_test (a_freeze_that_is_refused_or_not_answered_is_undone),
      cmocka_unit_test (in_best_effort_a_refused_freeze_does_not_matter_and_is_told),
      cmocka_unit_test (a_thaw_is_asked_again_over_a_new_connection),
      cmocka_unit_test (a_guest_that_cannot_be_thawed_is_told_and_thawed_by_recovery),
      cmocka_unit_test (when_the_transaction_fails_the_guest_is_thawed_before_anything_else),
      cmocka_unit_test (when_the_monitor_is_cut_the_guest_is_thawed_before_it_is_connected_again),
      cmocka_unit_test (a_freeze_that_lasts_too_long_is_thawed_and_the_snapshot_taken_back),
      cmocka_unit_test (recovery_thaws_before_it_asks_qemu_anything),
      cmocka_unit_test (a_journal_that_cannot_be_written_leaves_nobody_frozen),
      cmocka_unit_test (a_quiesce_leaves_the_guest_frozen),
      cmocka_unit_test (a_quiesce_that_is_refused_is_undone),
      cmocka_unit_test (a_quiesce_that_was_killed_is_thawed_by_recovery),
      cmocka_unit_test (an_interrupted_quiesce_ends_with_its_qemu),
      cmocka_unit_test (a_guest_is_thawed_although_its_monitor_cannot_be_reached),
      cmocka_unit_test (whatever_happens_at_whatever_command_the_guest_is_thawed),
  };
  bad_disk_install ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
