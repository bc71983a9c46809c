# A guest of one sector: it writes 1, 2, 3 ... in turn to its DISKS disks, each number to a sector of its own, and
# never begins a write before the last one is done. So of any instant, the sectors hold 1 to N without a gap. The
# sectors of a disk lie STRIDE apart.
# It waits for a tick of the clock (18 a second) after each. (BIOS: int 13h, extended write)
.ifndef STRIDE
.set STRIDE, 1
.endif
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
next:
  incl number
  movl number, %eax
  movw $0x8000, %di
  movw $128, %cx
  rep stosl
  movl number, %eax
  decl %eax
  xorl %edx, %edx
  movl $DISKS, %ecx
  divl %ecx
  movb %dl, %bl
  movl $STRIDE, %ecx
  mull %ecx
  incl %eax
  movl %eax, sector
  movb %bl, %dl
  addb $0x80, %dl
  movb $0x43, %ah
  xorb %al, %al
  movw $packet, %si
  int $0x13
  hlt
  jmp next

.balign 4
number: .long 0
packet: .byte 16, 0
  .word 1
  .word 0x8000, 0
sector: .long 0, 0
.org 510
  .word 0xaa55
