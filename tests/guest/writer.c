/*
 * The verifying writer: keeps writing records to the disks under test and tells
 * the host, through a virtio-serial port, what it is about to write, what was
 * acknowledged and what was flushed. The host's oracle judges images by that.
 *
 * Each disk has a process of its own. Kernel command line:
 *
 *   rc.disks=vda,vdb   the disks (default: vda)
 *   rc.region=BYTES    write only to the first BYTES of each disk (default: all)
 *   rc.rate=N          at most N writes per second and disk (default: no limit)
 *   rc.seed=N          another order of blocks
 *   rc.batch=N         blocks in flight at once, 1 to 64 (default: 8)
 *   rc.sync=N          fdatasync after every N writes (default: 8)
 *   rc.start=N         the first version is N + 1 (so versions grow over boots)
 *   rc.files=vdb,vdc   disks with mounted filesystems (init mounts them): one process
 *                      writes the numbers 1, 2, 3 ... in turn to /mnt/DISK/numbers of
 *                      each, through the page cache, the next one after the last one's
 *                      write() returned; rc.rate=N is for all of them (default: 1000)
 *
 * Lines to the host. DISK is vda, vdb ...; versions are a disk's write numbers:
 *
 *   B                           the writer has started: a new boot
 *   S DISK BLOCKS               the disk's process runs, over so many blocks
 *   I DISK VERSION BLOCK...     about to write these blocks, versions counting up
 *                               from VERSION; said before the first is issued
 *   A DISK VERSION COUNT        of these versions, all not named in an E line are
 *                               acknowledged
 *   E DISK BLOCK VERSION ERRNO  this write failed (said before its A line)
 *   F DISK VERSION              flushed: everything acknowledged up to VERSION
 *   X DISK VERSION ERRNO        fdatasync failed
 *   P DISK / R DISK             paused / resumed; nothing is in flight when paused
 *   N COUNT                     the numbers up to COUNT are written, in rc.files' sense
 *   V ok DISK COUNT             verified: COUNT blocks read back as last written
 *   V bad DISK BLOCK WANT GOT   a block is not; GOT is a version, "torn", "other"
 *                               or "errno N"
 *   Q                           all disks flushed; powering off
 *   D TEXT                      the writer cannot go on
 *
 * Lines from the host: pause, resume, verify, quit.
 *
 * A write to the port returns when the bytes are queued for the host, in order. So when QEMU is
 * killed, the host knows of every block that can have been written, but for the last batch. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, MAX_BATCH = 64, MAX_WISHES = 64 };

/* One block on disk. The checksum is Adler-32 (zlib.adler32 in the oracle) of the
 * block with the checksum field zero: quick to compute on an emulated CPU. */
typedef struct {
  char magic[8]; /* "rcBLOCK1" */
  char disk[8];
  uint64_t block;
  uint64_t version;
  uint64_t checksum;
  uint64_t fill[(BLOCK - 40) / 8];
} Record;

_Static_assert(sizeof (Record) == BLOCK, "a record fills its block");

typedef enum { RUN, PAUSE, VERIFY, QUIT } Wish;

/* What the host wants of the disk processes, in order: the n-th wish stands at
 * n % MAX_WISHES. Shared by all processes; each counts what it has fulfilled. */
typedef struct {
  _Atomic unsigned count;
  _Atomic Wish wish[MAX_WISHES];
} Control;

typedef struct {
  const char *name;
  int fd;
  aio_context_t aio;
  uint64_t blocks;
  uint64_t version; /* the last one issued */
  uint64_t flushed; /* the last one flushed */
  uint64_t random;
  uint64_t *written; /* block -> last acknowledged version, 0: never */
  bool *unsure;      /* block -> a later write to it failed */
} Disk;

static char cmdline[4096];
static int port = -1;
static Control *control;

/* ---- talking to the host --------------------------------------------------------------------- */

static void
say_bytes (const char *text, size_t length)
{
  while (length > 0) {
    ssize_t n = write (port, text, length);
    if (n < 0) {
      if (errno == EINTR || errno == EAGAIN)
        continue;
      perror ("writing to the host");
      exit (1);
    }
    text += n;
    length -= n;
  }
}

static void
say (const char *format, ...) __attribute__ ((format (printf, 1, 2)));

static void
say (const char *format, ...)
{
  char line[256];
  va_list args;

  va_start (args, format);
  int length = vsnprintf (line, sizeof line, format, args);
  va_end (args);
  say_bytes (line, length);
}

_Noreturn static void
die (const char *what)
{
  int number = errno;

  fprintf (stderr, "writer: %s: %s\n", what, strerror (number));
  if (port >= 0)
    say ("D %s: %s\n", what, strerror (number));
  exit (1);
}

/* The value of a word `name=` on the kernel command line, or NULL. */
static const char *
option_text (const char *name)
{
  static char value[256];
  size_t length = strlen (name);

  for (const char *at = cmdline; (at = strstr (at, name)) != NULL; at += length)
    if ((at == cmdline || at[-1] == ' ') && at[length] == '=') {
      snprintf (value, sizeof value, "%.*s", (int)strcspn (at + length + 1, " \n"),
                at + length + 1);
      return value;
    }
  return NULL;
}

static uint64_t
option_number (const char *name, uint64_t otherwise)
{
  const char *text = option_text (name);

  return text != NULL ? strtoull (text, NULL, 0) : otherwise;
}

/* There is one virtio-serial port; its name depends on the number of disks. */
static void
open_port (void)
{
  for (int tries = 0; tries < 500; tries++) {
    glob_t found = {0};
    if (glob ("/dev/vport*", 0, NULL, &found) == 0)
      port = open (found.gl_pathv[0], O_RDWR | O_CLOEXEC);
    globfree (&found);
    if (port >= 0)
      return;
    usleep (10000);
  }
  die ("/dev/vport*");
}

/* ---- records --------------------------------------------------------------------------------- */

static uint64_t
next_random (uint64_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static uint32_t
adler32 (const void *data, size_t length)
{
  const unsigned char *byte = data;
  uint32_t a = 1, b = 0;

  for (size_t i = 0; i < length; i++) { /* no overflow below 5552 bytes */
    a += byte[i];
    b += a;
  }
  return (b % 65521) << 16 | a % 65521;
}

static void
record_fill (Record *record, const char *disk, uint64_t block, uint64_t version)
{
  uint64_t random = (block << 32 ^ version) | 1;

  memcpy (record->magic, "rcBLOCK1", 8);
  memset (record->disk, 0, sizeof record->disk);
  strncpy (record->disk, disk, sizeof record->disk - 1);
  record->block = block;
  record->version = version;
  record->checksum = 0;
  for (size_t i = 0; i < sizeof record->fill / 8; i++)
    record->fill[i] = next_random (&random);
  record->checksum = adler32 (record, sizeof *record);
}

static bool
record_is_whole (Record *record)
{
  uint64_t checksum = record->checksum;

  record->checksum = 0;
  bool whole = adler32 (record, sizeof *record) == checksum;
  record->checksum = checksum;
  return whole;
}

/* ---- one disk -------------------------------------------------------------------------------- */

static void
disk_open (Disk *disk, const char *name)
{
  char path[64];
  uint64_t bytes;

  snprintf (path, sizeof path, "/dev/%s", name);
  disk->name = name;
  for (int tries = 0; (disk->fd = open (path, O_RDWR | O_DIRECT)) < 0; tries++) {
    if (tries == 500)
      die (path);
    usleep (10000);
  }
  if (ioctl (disk->fd, BLKGETSIZE64, &bytes) < 0)
    die (path);
  uint64_t region = option_number ("rc.region", bytes);
  disk->blocks = (region < bytes ? region : bytes) / BLOCK;
  disk->version = disk->flushed = option_number ("rc.start", 0);
  disk->random = (option_number ("rc.seed", 1) * 0x9e3779b97f4a7c15 ^ (uint64_t)name[2] << 40 ^
                  disk->version) |
                 1;
  disk->written = calloc (disk->blocks, sizeof *disk->written);
  disk->unsure = calloc (disk->blocks, sizeof *disk->unsure);
  if (disk->written == NULL || disk->unsure == NULL || disk->blocks == 0)
    die (path);
  if (syscall (SYS_io_setup, MAX_BATCH, &disk->aio) < 0)
    die ("io_setup");
}

static bool
is_among (uint64_t block, const uint64_t *blocks, int count)
{
  for (int i = 0; i < count; i++)
    if (blocks[i] == block)
      return true;
  return false;
}

/* Two writes to one block in flight at once would have no order: all blocks of a
 * batch differ. */
static int
choose_blocks (Disk *disk, uint64_t *blocks, int wanted)
{
  int count = 0;

  if ((uint64_t)wanted > disk->blocks)
    wanted = disk->blocks;
  while (count < wanted) {
    uint64_t block = next_random (&disk->random) % disk->blocks;
    if (!is_among (block, blocks, count))
      blocks[count++] = block;
  }
  return count;
}

static void
announce (Disk *disk, uint64_t first, const uint64_t *blocks, int count)
{
  char line[32 + MAX_BATCH * 21];
  int length = sprintf (line, "I %s %llu", disk->name, (unsigned long long)first);

  for (int i = 0; i < count; i++)
    length += sprintf (line + length, " %llu", (unsigned long long)blocks[i]);
  line[length++] = '\n';
  say_bytes (line, length);
}

/* Writes one batch; returns when the last of it has been answered. */
static void
disk_write (Disk *disk, Record *records, int wanted)
{
  uint64_t blocks[MAX_BATCH], first = disk->version + 1;
  int count = choose_blocks (disk, blocks, wanted);
  struct iocb requests[MAX_BATCH] = {0}, *list[MAX_BATCH];
  struct io_event answers[MAX_BATCH];

  for (int i = 0; i < count; i++) {
    record_fill (&records[i], disk->name, blocks[i], ++disk->version);
    requests[i] = (struct iocb){
        .aio_lio_opcode = IOCB_CMD_PWRITE,
        .aio_fildes = disk->fd,
        .aio_data = i,
        .aio_buf = (uintptr_t)&records[i],
        .aio_nbytes = BLOCK,
        .aio_offset = blocks[i] * BLOCK,
    };
    list[i] = &requests[i];
  }
  announce (disk, first, blocks, count);

  for (int sent = 0; sent < count;) {
    long n = syscall (SYS_io_submit, disk->aio, count - sent, list + sent);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      die ("io_submit");
    sent += n > 0 ? n : 0;
  }
  for (int got = 0; got < count;) {
    long n = syscall (SYS_io_getevents, disk->aio, 1, count - got, answers + got, NULL);
    if (n < 0 && errno != EINTR)
      die ("io_getevents");
    got += n > 0 ? n : 0;
  }

  for (int i = 0; i < count; i++) {
    uint64_t block = blocks[answers[i].data], version = first + answers[i].data;
    bool failed = answers[i].res != BLOCK;

    disk->unsure[block] = failed;
    if (failed)
      say ("E %s %llu %llu %d\n", disk->name, (unsigned long long)block,
           (unsigned long long)version, answers[i].res < 0 ? (int)-answers[i].res : EIO);
    else
      disk->written[block] = version;
  }
  say ("A %s %llu %d\n", disk->name, (unsigned long long)first, count);
}

static void
disk_flush (Disk *disk)
{
  disk->flushed = disk->version;
  if (fdatasync (disk->fd) == 0)
    say ("F %s %llu\n", disk->name, (unsigned long long)disk->version);
  else
    say ("X %s %llu %d\n", disk->name, (unsigned long long)disk->version, errno);
}

/* Reads a block back; says what is wrong with it, if anything is. */
static bool
block_is_right (Disk *disk, Record *record, uint64_t block)
{
  uint64_t want = disk->written[block];
  char got[40];

  if (pread (disk->fd, record, BLOCK, block * BLOCK) != BLOCK)
    snprintf (got, sizeof got, "errno %d", errno);
  else if (memcmp (record->magic, "rcBLOCK1", 8) != 0 || record->block != block ||
           strncmp (record->disk, disk->name, sizeof record->disk) != 0)
    snprintf (got, sizeof got, "other");
  else if (!record_is_whole (record))
    snprintf (got, sizeof got, "torn");
  else if (record->version == want || (disk->unsure[block] && record->version > want))
    return true;
  else
    snprintf (got, sizeof got, "%llu", (unsigned long long)record->version);
  say ("V bad %s %llu %llu %s\n", disk->name, (unsigned long long)block, (unsigned long long)want,
       got);
  return false;
}

static void
disk_verify (Disk *disk, Record *record)
{
  uint64_t right = 0, wrong = 0;

  for (uint64_t block = 0; block < disk->blocks; block++)
    if (disk->written[block] != 0) {
      if (block_is_right (disk, record, block))
        right++;
      else
        wrong++;
    }
  if (wrong == 0)
    say ("V ok %s %llu\n", disk->name, (unsigned long long)right);
}

static uint64_t
now_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* Sleeps until `count` more writes are due. A disk that fell behind does not catch up. */
static void
keep_rate (uint64_t *due, uint64_t rate, int count)
{
  if (rate == 0)
    return;
  uint64_t now = now_ns ();
  if (*due > now) {
    uint64_t wait = *due - now;
    nanosleep (&(struct timespec){wait / 1000000000, wait % 1000000000}, NULL);
  } else {
    *due = now;
  }
  *due += count * 1000000000ull / rate;
}

_Noreturn static void
disk_run (const char *name)
{
  Disk disk = {0};
  uint64_t rate = option_number ("rc.rate", 0), sync = option_number ("rc.sync", 8);
  uint64_t batch = option_number ("rc.batch", 8), due = 0;
  unsigned seen = 0;
  bool paused = false;

  batch = batch < 1 ? 1 : batch > MAX_BATCH ? MAX_BATCH : batch;
  disk_open (&disk, name);
  Record *records = aligned_alloc (BLOCK, MAX_BATCH * BLOCK);
  if (records == NULL)
    die ("memory");
  say ("S %s %llu\n", name, (unsigned long long)disk.blocks);

  for (;;) {
    while (seen != atomic_load (&control->count)) {
      switch (atomic_load (&control->wish[seen++ % MAX_WISHES])) {
      case PAUSE:
        paused = true;
        say ("P %s\n", name);
        break;
      case RUN:
        paused = false;
        say ("R %s\n", name);
        break;
      case VERIFY:
        disk_verify (&disk, records);
        break;
      case QUIT:
        disk_flush (&disk);
        exit (0);
      }
    }
    if (paused) {
      usleep (5000);
      continue;
    }
    keep_rate (&due, rate, batch);
    disk_write (&disk, records, batch);
    if (disk.version - disk.flushed >= sync)
      disk_flush (&disk);
  }
}

/* ---- numbers in files ------------------------------------------------------------------------ */

enum { MAX_FILES = 16, SAY_EVERY = 50 };

/* Never flushed by us: who freezes the filesystems has to write out what was acknowledged. */
_Noreturn static void
files_run (char *names)
{
  int files[MAX_FILES], count = 0;
  uint64_t due = 0, rate = option_number ("rc.rate", 1000);
  unsigned seen = 0;
  char text[64];

  for (char *name = strtok (names, ","); name != NULL && count < MAX_FILES;
       name = strtok (NULL, ",")) {
    snprintf (text, sizeof text, "/mnt/%s/numbers", name);
    if ((files[count++] = open (text, O_WRONLY | O_CREAT | O_APPEND, 0644)) < 0)
      die (text);
  }
  for (uint64_t number = 1; count > 0; number++) {
    while (seen != atomic_load (&control->count))
      if (atomic_load (&control->wish[seen++ % MAX_WISHES]) == QUIT)
        exit (0);
    keep_rate (&due, rate, 1);
    int length = sprintf (text, "%015llu\n", (unsigned long long)number);
    if (write (files[number % count], text, length) != length)
      die ("a number");
    if (number % SAY_EVERY == 0)
      say ("N %llu\n", (unsigned long long)number);
  }
  exit (0);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void
obey (const char *command)
{
  static const struct {
    const char *word;
    Wish wish;
  } words[] = {
      {"pause", PAUSE},
      {"resume", RUN},
      {"verify", VERIFY},
      {"quit", QUIT},
  };

  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (strcmp (command, words[i].word) == 0) {
      atomic_store (&control->wish[atomic_load (&control->count) % MAX_WISHES], words[i].wish);
      atomic_fetch_add (&control->count, 1);
      return;
    }
  say ("D unknown command '%s'\n", command);
}

/* The next line from the host. */
static void
read_command (char *line, size_t size)
{
  size_t length = 0;

  while (length + 1 < size) {
    ssize_t n = read (port, line + length, 1);
    if (n <= 0) { /* no host is connected just now */
      usleep (10000);
      continue;
    }
    if (line[length] == '\n')
      break;
    length++;
  }
  line[length] = '\0';
}

int
main (void)
{
  static char names[256];
  char line[64];
  FILE *file = fopen ("/proc/cmdline", "r");

  if (file == NULL || fgets (cmdline, sizeof cmdline, file) == NULL)
    die ("/proc/cmdline");
  fclose (file);
  const char *wanted = option_text ("rc.disks");
  snprintf (names, sizeof names, "%s", wanted != NULL ? wanted : "vda");

  control = mmap (NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (control == MAP_FAILED)
    die ("mmap");
  open_port ();
  say ("B\n");
  for (char *name = strtok (names, ","); name != NULL; name = strtok (NULL, ","))
    if (fork () == 0)
      disk_run (name);

  wanted = option_text ("rc.files");
  snprintf (names, sizeof names, "%s", wanted != NULL ? wanted : "");
  if (*names != '\0' && fork () == 0)
    files_run (names);

  do {
    read_command (line, sizeof line);
    obey (line);
  } while (strcmp (line, "quit") != 0);

  while (wait (NULL) > 0)
    ;
  say ("Q\n");
  sync ();
  reboot (RB_POWER_OFF);
}
