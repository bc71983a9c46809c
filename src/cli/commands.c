/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command table: dispatch, help, completion and the man page's list of commands come
 * from here. */
#include "src/cli/cli.h"

#include <string.h>

#define BIT(id) OPTION_BIT (OPT_##id)

/* What every operation takes. */
#define OPERATION                                                                                  \
  (BIT (DRY_RUN) | BIT (BANDWIDTH) | BIT (TIMEOUT) | BIT (MAX_PAUSE) | BIT (PIVOT) |               \
   BIT (DELETE) | BIT (NO_UNDO) | BIT (REUSE) | BIT (RELATIVE) | BIT (GROW_LV) | BIT (YES))
/* What those take that begin with a snapshot. */
#define FREEZE          (BIT (QUIESCE) | BIT (QUIESCE_BEST_EFFORT) | BIT (MAX_FREEZE) | BIT (AGENT))
#define OPERATION_EXITS "0 1 2 3 4 5 6 7 8 130"
/* What every operation on volumes takes, and what is asked of new files. */
#define VOLUME       (BIT (DRY_RUN) | BIT (TIMEOUT) | BIT (YES))
#define NEW_FILE     (BIT (MODE) | BIT (OWNER) | BIT (GROUP))
#define VOLUME_EXITS "0 1 2 3 4 5 7 8 130"
#define ANY          G_MAXUINT
#define OFFLINE_TEXT                                                                               \
  "With --offline there is no VM: IMAGE is the file at the top of a chain that no process has "    \
  "open."

const Command commands[] = {
    {"info", "VM", "what a QEMU is, what it runs, and what it can do", run_info, 1, 1, 0,
     "Prints the QEMU version and run state, the disks, all jobs and who owns them, block exports, "
     "and the features that decide what rechain can do with this QEMU. While an operation of "
     "rechain holds the monitor, it is borrowed from it.",
     "rechain info /run/qemu/web1.qmp", "0 3 5 6"},

    {"chain", "VM [DISK] | --offline IMAGE", "the backing chain, active layer first", run_chain, 1,
     2, BIT (OFFLINE) | BIT (FORMAT),
     "Prints the layers behind each disk, as QEMU has them open. With --offline there is no VM: "
     "the chain of IMAGE is read from the headers on disk. A format is never guessed from the "
     "contents of an image, unless it is qcow2; name it with --format.",
     "rechain chain web1 vda -o dot | dot -Tsvg > chain.svg", "0 3 4 5 6"},

    {"snapshot create", "VM [DISK[,to=FILE][,on-delete=HOW][,method=M]...]",
     "disk-only snapshot of one, several or all writable disks", run_snapshot_create, 1, ANY,
     BIT (NAME) | BIT (DESCRIPTION) | BIT (TO) | BIT (FORMAT) | BIT (ON_DELETE) | BIT (METHOD) |
         BIT (DEVICE) | BIT (SUBVOLUME) | BIT (SIZE) | BIT (XML) | BIT (REDEFINE) | OPERATION |
         FREEZE,
     "Puts a new overlay over the active layer of each disk, at one instant for all of them. "
     "Without DISK, all writable disks are taken. Without to=, the overlay lies beside the active "
     "image, named after it and NAME. A comma inside a name is doubled. The snapshot is put on "
     "record, with how each disk is to be merged one day (on-delete: forward pulls the old layer "
     "up, backward, the default, commits the new one down). With method=lvm or method=btrfs the "
     "disk stays on its layer, and a read-only snapshot of its logical volume (device=/dev/VG/LV, "
     "size=SIZE unless it is thin), a file that shares its blocks (device=FILE), or a snapshot of "
     "its subvolume (subvolume=DIRECTORY) is made beside it, to take backups from; the guest is "
     "held for that instant unless one raw logical volume is all there is. --xml FILE reads a "
     "<domainsnapshot> instead; with --redefine it is only recorded, if the chain is as it says.",
     "rechain snapshot create web1 vda vdb,to=/new/b.qcow2 --name before-upgrade", OPERATION_EXITS},
    {"snapshot list", "VM", "snapshots on record, as a tree", run_snapshot_list, 1, 1, 0,
     "Prints each snapshot with its disks, whether its layers still lie over each other, and how "
     "many bytes merging it would copy at most in each direction. The current one, which the next "
     "snapshot has as its parent, is marked with a star.",
     "rechain snapshot list web1", "0 3 5 6"},
    {"snapshot show", "VM NAME", "one snapshot on record; does it still match the chain?",
     run_snapshot_show, 2, 2, BIT (AS_XML),
     "Prints the record: per disk the layer that became active, and the read-only one under it to "
     "take backups from. Exits with 10 where the chain is another one. With --xml it is printed as "
     "a <domainsnapshot>, without asking the VM.",
     "rechain snapshot show web1 before-upgrade", "0 3 5 6 10"},
    {"snapshot edit", "VM NAME [DISK,on-delete=HOW...]", "change how a snapshot is to be merged",
     run_snapshot_edit, 2, ANY, BIT (DIRECTION) | BIT (DESCRIPTION),
     "Changes the record: the direction of single disks or, with --direction, of all, and the "
     "description. The VM is not asked.",
     "rechain snapshot edit web1 before-upgrade vda,on-delete=forward", "0 2 3 5"},
    {"snapshot delete", "VM NAME", "merge the disks of a snapshot and drop its record",
     run_snapshot_delete, 2, 2,
     BIT (DIRECTION) | BIT (METADATA_ONLY) | BIT (ALLOW_SHARED) | OPERATION,
     "Merges each disk in its recorded direction, or all in that of --direction: forward the old "
     "layer is pulled up into the new one, backward the new one is committed down into the old. "
     "All disks are one operation. It works for snapshots in the middle of a chain as well; those "
     "above get its parent. --metadata-only drops the record and leaves the layers alone. What "
     "method lvm or btrfs made is removed. Where the VM is off, the same is done to its images, as "
     "with --offline of other commands. --allow-shared LAYER changes a layer although others use "
     "it.",
     "rechain snapshot delete web1 before-upgrade --direction backward", OPERATION_EXITS},

    {"move", "VM DISK[,to=FILE][,base=LAYER]...", "live block move: continue a disk in a new file",
     run_move, 2, ANY, BIT (TO) | BIT (BASE) | BIT (FORMAT) | OPERATION | FREEZE,
     "Snapshots each disk into FILE, pulls everything above the base into it and drops the rest of "
     "the chain. Default base is the layer under the active one, so that a shared template stays; "
     "base=none flattens. The guest runs on. What fails or is cancelled before the pivot is taken "
     "back in full; old layers stay unless --delete is given.",
     "rechain move web1 vda --to /new/web1.qcow2 --bandwidth 200M", OPERATION_EXITS},

    {"pull", "VM DISK[,base=LAYER][,top=LAYER]... | --offline IMAGE[,base=LAYER][,top=LAYER]",
     "forward merge: data of the layers above base is pulled up into top", run_pull, 2, ANY,
     BIT (BASE) | BIT (TOP) | BIT (ALLOW_SHARED) | BIT (OFFLINE) | BIT (FORMAT) | OPERATION,
     "Copies what the layers between base and top hold into top, and drops them from the chain. "
     "Default top is the active layer, default base is none: top holds everything then. The guest "
     "runs on, on the same active layer. What is cancelled or fails leaves the chain as it was; "
     "what "
     "was copied stays in top, where it changes nothing that is read. " OFFLINE_TEXT,
     "rechain pull web1 vda --base /img/template.qcow2", OPERATION_EXITS},

    {"rebase", "VM DISK,base=LAYER[,top=LAYER]... | --offline IMAGE,base=LAYER[,top=LAYER]",
     "pull, down to a base that must be named", run_rebase, 2, ANY,
     BIT (BASE) | BIT (TOP) | BIT (ALLOW_SHARED) | BIT (OFFLINE) | BIT (FORMAT) | OPERATION,
     "The same as pull; --base must be given.",
     "rechain rebase web1 vda --base /img/template.qcow2", OPERATION_EXITS},

    {"commit", "VM DISK[,top=LAYER][,base=LAYER]... | --offline IMAGE[,top=LAYER][,base=LAYER]",
     "backward merge: top is committed down into base", run_commit, 2, ANY,
     BIT (BASE) | BIT (TOP) | BIT (ALLOW_SHARED) | BIT (OFFLINE) | BIT (FORMAT) | OPERATION,
     "Copies what top, and the layers between, hold down into base, and drops them from the chain. "
     "Default top is the active layer, default base the layer under top. Committing the active "
     "layer "
     "moves the guest to base: it is held for some milliseconds (--max-pause). The base is changed "
     "from the beginning: what fails or is cancelled leaves the guest's data as it was, but base "
     "by "
     "itself is not what it was before. A base that others use too is refused. " OFFLINE_TEXT,
     "rechain commit web1 vda --top /img/snap1.qcow2 --base /img/template.qcow2", OPERATION_EXITS},

    {"merge",
     "VM DISK,source=LAYER,dest=LAYER... | VM DISK --xml FILE | --offline "
     "IMAGE,source=LAYER,dest=LAYER",
     "merge one layer into another, whichever lies above", run_merge, 2, ANY,
     BIT (SOURCE) | BIT (DEST) | BIT (ALLOW_SHARED) | BIT (OFFLINE) | BIT (FORMAT) | BIT (XML) |
         OPERATION,
     "Where dest lies above source, data is pulled up; where it lies below, it is committed down. "
     "Layers between the two are merged too. What was backed by source is backed by dest then. "
     "With "
     "--xml the two come from <merge><source>FILE</source><dest>FILE</dest></merge>. " OFFLINE_TEXT,
     "rechain merge web1 vda --source /img/snap1.qcow2 --dest /img/template.qcow2",
     OPERATION_EXITS},

    {"copy", "VM DISK,to=FILE[,format=F]...", "mirror a disk to other storage, then pivot to it",
     run_copy, 2, ANY, BIT (TO) | BIT (FORMAT) | BIT (SHALLOW) | BIT (NO_PIVOT) | OPERATION,
     "Mirrors each disk into FILE (qcow2 or raw, default: as the active layer), and moves the "
     "guest to it once both are the same: it is held for some milliseconds (--max-pause). With "
     "--shallow only the active layer is copied, and what backs it is kept. With --no-pivot the "
     "guest stays where it is, and FILE is a copy of one moment.",
     "rechain copy web1 vda --to /new/web1.raw --format raw", OPERATION_EXITS},

    {"map", "VM DISK | --offline IMAGE", "allocation map: which layer holds what", run_map, 1, 2,
     BIT (OFFLINE) | BIT (FORMAT) | BIT (START) | BIT (LENGTH),
     "Prints a strip with one character per slice of the disk (the letter of the layer that holds "
     "most of it, small for zeros, a dot for what no layer has), the totals of each layer, and all "
     "extents. The map of a running disk is read through a read-only NBD export on a private "
     "socket, which is removed afterwards; of an image, with --offline, by qemu-img. The guest "
     "runs on, and what it writes meanwhile may be in the map or not.",
     "rechain map web1 vda --start 1G --length 64M", "0 2 3 4 5 6 7 8"},

    {"allocate", "VM DISK [--offset SIZE --length SIZE]... | --offline IMAGE ...",
     "give regions of the active layer their own data", run_allocate, 1, 2,
     BIT (OFFLINE) | BIT (FORMAT) | BIT (OFFSET) | BIT (LENGTH) | BIT (REGIONS) | BIT (FILL) |
         BIT (DETACH) | BIT (DRY_RUN) | BIT (BANDWIDTH) | BIT (TIMEOUT) | BIT (MAX_PAUSE) |
         BIT (NO_UNDO),
     "Copies what backing layers hold in the regions (default: the whole disk) into the active "
     "layer, so that it no longer depends on them there; zeros stay unallocated. With --fill full "
     "they are allocated as well. The guest reads the same and runs on; for zeros of a qcow2 image "
     "it is held for moments, each shorter than --max-pause. --detach-backing then drops the "
     "backing layers from the chain, as pull does. What is allocated when it is cancelled stays "
     "so.",
     "rechain allocate web1 vda --offset 0 --length 10G --bandwidth 100M", OPERATION_EXITS},

    {"quiesce", "VM", "freeze the guest's filesystems, and leave them frozen", run_quiesce, 1, 1,
     BIT (AGENT) | BIT (MAX_FREEZE),
     "Asks the guest agent to write everything out and to freeze the guest's filesystems, and "
     "prints how many it froze. They stay frozen, and the guest's writes stand still, until "
     "'rechain thaw': take your snapshots in between. Should rechain die before it has the agent's "
     "answer, 'rechain recover' thaws them.",
     "rechain quiesce web1 --agent /run/qemu/web1.qga", "0 2 3 4 6 7 8"},
    {"thaw", "VM", "thaw the guest's filesystems", run_thaw, 1, 1, BIT (AGENT),
     "Asks the guest agent to thaw the guest's filesystems, whoever froze them, and prints how "
     "many it thawed. The monitor is not needed. Where nothing is frozen, nothing happens.",
     "rechain thaw web1", "0 1 2 3 6"},

    {"job list", "VM", "jobs of a QEMU, ours and foreign", run_job_list, 1, 1, 0,
     "Prints all block jobs of the VM with their progress, and who started them.",
     "rechain job list web1", "0 3 5 6"},
    {"job show", "VM JOB", "one job of a QEMU", run_job_show, 2, 2, 0,
     "Prints everything that is known of one job.", "rechain job show web1 rc-7f3a9c02-vda-stream",
     "0 3 5 6"},
    {"job wait", "VM JOB", "wait for a job to end", run_job_wait, 2, 2, BIT (TIMEOUT),
     "Waits until the job is gone or concluded. A job that failed, or that vanished without a "
     "record, is an error. --timeout ends the waiting, not the job.",
     "rechain job wait web1 drive-mirror0 --timeout 5m", "0 1 3 6 9 130"},
    {"job cancel", "VM JOB", "cancel a job at once; it changes nothing", run_job_cancel, 2, 2,
     BIT (FOREIGN),
     "Cancels the job. A job of an operation of rechain makes that operation fail, which is then "
     "undone; 'rechain op cancel' is the better way. Foreign jobs need --foreign.",
     "rechain job cancel web1 drive-mirror0 --foreign", "0 3 4 6"},
    {"job pause", "VM JOB", "pause a job", run_job_pause, 2, 2, BIT (FOREIGN),
     "Pauses the job until 'rechain job resume'. Foreign jobs need --foreign.",
     "rechain job pause web1 rc-7f3a9c02-vda-stream", "0 3 4 6"},
    {"job resume", "VM JOB", "let a paused job go on", run_job_resume, 2, 2, BIT (FOREIGN),
     "Resumes the job. Foreign jobs need --foreign.",
     "rechain job resume web1 rc-7f3a9c02-vda-stream", "0 3 4 6"},
    {"job speed", "VM JOB RATE", "change the rate limit of a job", run_job_speed, 3, 3,
     BIT (FOREIGN),
     "Limits the job to RATE bytes per second; 0 lifts the limit. Foreign jobs need --foreign.",
     "rechain job speed web1 rc-7f3a9c02-vda-stream 50M", "0 2 3 4 6"},

    {"op list", "", "operations in the journal, newest first", run_op_list, 0, 0, 0,
     "Lists every operation of this state directory: running, ended and interrupted ones.",
     "rechain op list", "0 5"},
    {"op show", "OP", "one operation, with its journal step by step", run_op_show, 1, 1, 0,
     "Prints what became of the operation, and what was intended and seen at each step. OP is the "
     "id, or the beginning of one.",
     "rechain op show 7f3a", "0 3 5"},
    {"op wait", "OP", "wait for an operation to end", run_op_wait, 1, 1, BIT (TIMEOUT),
     "Waits for an operation that another process runs, and exits as that one does. --timeout ends "
     "the waiting, not the operation.",
     "rechain op wait 7f3a --timeout 30m", "0 3 7 8 9 130"},
    {"op cancel", "OP", "cancel a running operation; it is undone", run_op_cancel, 1, 1, 0,
     "Asks the process that runs the operation to cancel it, and waits until it is undone. After "
     "the pivot it is too late: the operation is finished.",
     "rechain op cancel 7f3a", "0 3 4 8"},
    {"op undo", "OP", "undo a finished operation, where that is possible", run_op_undo, 1, 1,
     BIT (DRY_RUN) | BIT (YES),
     "Takes a finished snapshot back: what was written since is committed into the old layer of "
     "each disk, the guest continues there, and the overlays are removed. It is planned and run "
     "like any operation. Other kinds cannot be undone when they are done, and are refused with "
     "the reason.",
     "rechain op undo 7f3a", OPERATION_EXITS},
    {"recover", "[VM]", "settle every interrupted operation", run_recover, 0, 1,
     BIT (OP) | BIT (UNDO) | BIT (FINISH) | BIT (YES),
     "Looks at the journal, QEMU and the files, and takes each operation whose process is gone to "
     "an end: back before the pivot, on after it, or as --undo and --finish say. It can be run any "
     "number of times.",
     "rechain recover web1", "0 3 4 6 8"},

    {"vol list", "[DIR|VG]", "volumes of a directory or a volume group", run_vol_list, 0, 1, 0,
     "Lists what is there now, with who has it open. Without an argument: all directories and "
     "volume groups of the configuration. Nothing is remembered about volumes.",
     "rechain vol list /var/lib/images", "0 1 2 3 5"},
    {"vol info", "VOL", "everything about one volume", run_vol_info, 1, 1, BIT (FORMAT),
     "Prints type, format, sizes, backing chain, filesystem or partition table, who has it open, "
     "where it is mounted, what is built on it, and which configured VM has it in a chain. What is "
     "not qcow2 is taken as raw; --format says otherwise.",
     "rechain vol info /var/lib/images/web1.qcow2", "0 1 3 4 5"},
    {"vol create", "VOL --capacity SIZE | [VOL] --xml FILE", "a new volume", run_vol_create, 0, 1,
     VOLUME | BIT (CAPACITY) | BIT (FORMAT) | BIT (ALLOCATION) | BIT (BACKING) |
         BIT (BACKING_FORMAT) | BIT (RELATIVE) | NEW_FILE | BIT (XML) | BIT (POOL),
     "Makes a file, or with the name /dev/VG/LV a logical volume (thin with --pool), raw unless "
     "--format or the ending .qcow2 says otherwise. --allocation: sparse, metadata (qcow2), falloc "
     "(space reserved) or full (zeroes written). With --backing it is an overlay, of the same "
     "capacity unless said.",
     "rechain vol create /img/web2.qcow2 --backing /img/template.qcow2", VOLUME_EXITS},
    {"vol clone", "SRC DST", "a new volume with the contents of another", run_vol_clone, 2, 2,
     VOLUME | BIT (CAPACITY) | BIT (FORMAT) | BIT (SOURCE_FORMAT) | BIT (ALLOCATION) |
         BIT (BACKING) | BIT (BACKING_FORMAT) | BIT (RELATIVE) | BIT (SHRINK) | BIT (BANDWIDTH) |
         NEW_FILE | BIT (XML) | BIT (POOL),
     "DST has everything that a guest sees of SRC and its chain, in any format; a larger capacity "
     "reads as zeroes behind it, a smaller one needs --shrink and is refused where a filesystem or "
     "partition lies there. With --backing only what differs from that is kept. Where nothing is "
     "converted and the filesystem can, blocks are shared.",
     "rechain vol clone /img/web1.qcow2 /img/web1.img --format raw", VOLUME_EXITS},
    {"vol copy", "[HOST:]SRC [HOST:]DST", "a copy as it is, or into or out of an archive",
     run_vol_copy, 2, 2,
     VOLUME | BIT (SOURCE_FORMAT) | BIT (ARCHIVE) | BIT (OVERWRITE) | BIT (BANDWIDTH) | NEW_FILE |
         BIT (CAPACITY) | BIT (POOL) | BIT (SNAPSHOT) | BIT (OFFER),
     "Copies a volume byte for byte, holes as holes; blocks are shared where the filesystem can. "
     "With --archive the target is compressed, without it a compressed source is decompressed. The "
     "target has its name only once it is whole and on disk. Either can be on another host, as "
     "HOST:PATH: through ssh, checked by checksums, compressed where it lies.",
     "rechain vol copy /img/web1.img /backup/web1.img.zst --archive", VOLUME_EXITS},
    {"vol copy-contents", "SRC DST", "contents of a volume into another that exists",
     run_vol_copy_contents, 2, 2, VOLUME | BIT (SOURCE_FORMAT) | BIT (BANDWIDTH) | BIT (SNAPSHOT),
     "DST keeps format, size, owner and mode, and must not be smaller than SRC; what lies behind "
     "the contents of SRC reads as zeroes. The old contents stand until the new ones are whole.",
     "rechain vol copy-contents /img/template.qcow2 /img/web1.img", VOLUME_EXITS},
    {"vol resize", "VOL [+]SIZE", "make a volume larger or smaller", run_vol_resize, 2, 2,
     VOLUME | BIT (SOURCE_FORMAT) | BIT (SHRINK),
     "Sets the size that a guest sees. New space reads as zeroes. A smaller size needs --shrink, "
     "and is refused where a filesystem or partition lies there.",
     "rechain vol resize /img/web1.qcow2 +10G", VOLUME_EXITS},
    {"vol growfs", "VOL [SIZE]", "make the filesystem in a volume larger", run_vol_growfs, 1, 2,
     VOLUME | BIT (SOURCE_FORMAT),
     "Makes the ext2, ext3, ext4, xfs or btrfs filesystem that fills a raw or qcow2 file or a "
     "logical volume SIZE bytes large; 0, or no SIZE: as large as the volume. It is checked first "
     "(e2fsck -f). The work is done in an overlay and written into the volume once the result was "
     "checked too. Where the volume is mounted on this host, the kernel grows it online.",
     "rechain vol growfs /img/web1.qcow2", VOLUME_EXITS},
    {"vol shrinkfs", "VOL SIZE", "make the filesystem in a volume smaller", run_vol_shrinkfs, 2, 2,
     VOLUME | BIT (SOURCE_FORMAT),
     "Makes an ext2, ext3, ext4 or btrfs filesystem SIZE bytes large, as 'vol growfs' does it; the "
     "volume keeps its size. Where SIZE is too small, nothing is changed and the least size is "
     "told.",
     "rechain vol shrinkfs /img/web1.qcow2 4G", VOLUME_EXITS},
    {"vol snapshot", "VOL NAME", "keep what a volume has now", run_vol_snapshot, 2, 2,
     VOLUME | BIT (SOURCE_FORMAT) | BIT (METHOD) | BIT (CAPACITY) | NEW_FILE,
     "Of a file: web1.NAME.img, which shares all blocks where the filesystem can (xfs, btrfs); "
     "--method internal keeps it inside a qcow2 image, --method external makes the overlay "
     "web1.NAME.qcow2 to go on with. Of a logical volume: LV.NAME, also while a VM uses it; of a "
     "thick one --capacity says how much may change since. Of a btrfs subvolume (a directory): "
     "DIR.NAME, read-only.",
     "rechain vol snapshot /img/web1.img before-upgrade", VOLUME_EXITS},
    {"vol delete", "VOL", "remove a volume", run_vol_delete, 1, 1, VOLUME | BIT (FORCE),
     "Refused where a process has it open, where it is mounted, and where another image in its "
     "directory is built on it, unless --force names that. What a QEMU has open is never removed.",
     "rechain vol delete /img/web2.qcow2", VOLUME_EXITS},
    {"vol compress", "FILE [CODEC]", "an archive beside a volume", run_vol_compress, 1, 2,
     VOLUME | BIT (SOURCE_FORMAT) | BIT (DELETE) | NEW_FILE,
     "Makes FILE.zst (zstd; or gzip, xz, lz4, lzop). FILE stays unless --delete is given.",
     "rechain vol compress /img/web1.img xz --delete", VOLUME_EXITS},
    {"vol decompress", "FILE", "the volume beside its archive", run_vol_decompress, 1, 1,
     VOLUME | BIT (DELETE) | NEW_FILE,
     "Makes web1.img of web1.img.zst. FILE stays unless --delete is given.",
     "rechain vol decompress /backup/web1.img.zst", VOLUME_EXITS},
    {"storage info", "", "pools, formats, filesystems and codecs of this host", run_storage_info, 0,
     0, 0,
     "Prints the directories and volume groups with their free space (those of the configuration, "
     "else all mounted filesystems), and what this host's programs can handle.",
     "rechain storage info -o json", "0 1 5"},

    {"doctor", "[VM]", "what is wrong or missing on this host", run_doctor, 0, 1,
     BIT (REPAIR) | BIT (DRY_RUN) | BIT (AGENT),
     "Holds QEMU's graph, the headers of the images and the journal against each other, and names "
     "what does not fit, with its evidence and its cure: interrupted operations, wrong backing "
     "names, orphan overlays, images that nobody refers to, left-over jobs, nodes, exports, files "
     "and records, a guest left stopped or frozen, programs that are missing. Without VM: all VMs "
     "of the configuration, the journal and this host. --repair settles interrupted operations and "
     "cures what is provably rechain's own; everything else is only named. The exit code is 10 "
     "where something is found, and after --repair where something is left.",
     "rechain doctor web1 --repair", "0 2 3 5 6 8 10"},
    {"config check", "", "read the configuration and say what it says", run_config_check, 0, 0, 0,
     "Reads /etc/rechain/rechain.conf, /etc/rechain/conf.d/*.conf and the user's own rechain.conf, "
     "or only the one of --config. Unknown groups and keys are errors.",
     "rechain config check --config ./rechain.conf", "0 2 5"},
    {"version", "", "the version of rechain", run_version, 0, 0, 0,
     "Prints the version of the program and of the library.", "rechain version -o json", "0"},
    {"help", "[COMMAND]", "help, also of one command", run_help, 0, 2, BIT (COMPLETION),
     "Prints all commands, or everything about one.", "rechain help move", "0 2"},

    {0},
};

/* What one rechain asks of another, never a person. */
static const Command session_commands[] = {
    {"vol offer", "SRC", "what another host must know of a volume to copy it", run_vol_offer, 1, 1,
     BIT (SOURCE_FORMAT) | BIT (ARCHIVE) | BIT (DRY_RUN)},
    {"vol lend", "SRC",
     "a snapshot of a volume, and what another host must know of it, until that is given back",
     run_vol_lend, 1, 1, BIT (SOURCE_FORMAT) | BIT (ARCHIVE) | BIT (DRY_RUN)},
    {"vol send", "", "the contents of what was offered", run_vol_send, 0, 0,
     BIT (OFFER) | BIT (FROM)},
    {"vol feed", "OP", "brings data to an operation", run_vol_feed, 1, 1, 0},
    {0},
};

static const Command *
command_in (const Command *table, const char *name)
{
  for (const Command *command = table; command->name != NULL; command++)
    if (strcmp (command->name, name) == 0)
      return command;
  return NULL;
}

static const Command *
command_named (const char *name)
{
  return command_in (commands, name);
}

const Command *
session_command_find (const GPtrArray *words)
{
  g_autofree char *both =
      words->len >= 2 ? g_strconcat (words->pdata[0], " ", words->pdata[1], NULL) : NULL;
  return both ? command_in (session_commands, both) : NULL;
}

char *
command_verbs (const char *family)
{
  g_autofree char *start = g_strconcat (family, " ", NULL);
  GString *verbs = g_string_new (NULL);
  for (const Command *command = commands; command->name != NULL; command++)
    if (g_str_has_prefix (command->name, start))
      g_string_append_printf (verbs, "%s%s", verbs->len ? ", " : "",
                              command->name + strlen (start));
  gboolean empty = verbs->len == 0;
  char *text = g_string_free (verbs, empty);
  return empty ? NULL : text;
}

/* First words, and of a known family the full names. */
static const char **
names_like (const char *family)
{
  g_autofree char *start = family ? g_strconcat (family, " ", NULL) : NULL;
  GPtrArray *names = g_ptr_array_new ();
  for (const Command *command = commands; command->name != NULL; command++) {
    g_autofree char *first = g_strndup (command->name, strcspn (command->name, " "));
    if (start == NULL)
      g_ptr_array_add (names, (gpointer)g_intern_string (first));
    else if (g_str_has_prefix (command->name, start))
      g_ptr_array_add (names, (gpointer)(command->name + strlen (start)));
  }
  g_ptr_array_add (names, NULL);
  return (const char **)g_ptr_array_free (names, FALSE);
}

static const Command *
unknown_verb (const char *family, const char *verb, const char *verbs, GError **error)
{
  if (verb == NULL) {
    fail (error, USAGE, "'%s' needs a verb", family);
    hint (error, "there are: %s", verbs);
    return NULL;
  }
  g_autofree const char **names = names_like (family);
  const char *meant = nearest_name (verb, names);
  fail (error, USAGE, "unknown command '%s %s'", family, verb);
  if (meant != NULL)
    hint (error, "did you mean '%s %s'?", family, meant);
  else
    hint (error, "'%s' has: %s", family, verbs);
  return NULL;
}

static const Command *
unknown_command (const char *name, GError **error)
{
  g_autofree const char **names = names_like (NULL);
  const char *meant = nearest_name (name, names);
  fail (error, USAGE, "unknown command '%s'", name);
  if (meant != NULL)
    hint (error, "did you mean '%s'?", meant);
  else
    hint (error, "'rechain help' lists the commands");
  return NULL;
}

const Command *
command_find (const GPtrArray *words, guint *ret_used, GError **error)
{
  *ret_used = 0;
  if (words->len == 0) {
    fail (error, USAGE, "no command given");
    hint (error, "'rechain help' lists the commands");
    return NULL;
  }
  const char *first = words->pdata[0], *second = words->len > 1 ? words->pdata[1] : NULL;
  g_autofree char *both = second ? g_strconcat (first, " ", second, NULL) : NULL;
  const Command *command = both ? command_named (both) : NULL;
  *ret_used = command ? 2 : 1;
  /* A single word with a blank in it is no command of two words. */
  if (command == NULL && strchr (first, ' ') == NULL)
    command = command_named (first);
  if (command != NULL)
    return command;
  g_autofree char *verbs = command_verbs (first);
  return verbs ? unknown_verb (first, second, verbs, error) : unknown_command (first, error);
}
