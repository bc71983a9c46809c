# A guest of one sector, in the boot block of a filesystem: a log of SECTORS sectors, a file whose first sector is FIRST
# and which lies in one piece, gets 1, 2, 3 ... in turn, a sector each, all of it the number but for the second word: of
# that boot. It goes on behind what it finds (a sector that begins with -1 is empty), and waits for a tick of the clock
# (18 a second) after each. (BIOS: int 13h, extended read and write)
.code16
.globl _start
_start:
  cli
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movw $0x7c00, %sp
  sti
  cld
  movb %dl, drive
  movl 0x46c, %eax
  movl %eax, ticks
find:
  movb $0x42, %ah
  call disk
  cmpl $-1, 0x8000
  je write
  call step
  jmp find
write:
  movw $0x8000, %di
  movw $128, %cx
  movl number, %eax
  rep stosl
  movl ticks, %eax
  movl %eax, 0x8004
  movb $0x43, %ah
  call disk
  hlt
  call step
  jmp write

disk:
  movb drive, %dl
  xorb %al, %al
  movw $packet, %si
  int $0x13
  ret
step:
  incl number
  incl sector
  cmpl $SECTORS, number
  ja full
  ret
full:
  hlt
  jmp full

.balign 4
number: .long 1
ticks: .long 0
packet: .byte 16, 0
  .word 1
  .word 0x8000, 0
sector: .long FIRST, 0
drive: .byte 0
# No partition table: its places have what none has.
.org 446
  .fill 64, 1, 0xff
  .word 0xaa55
