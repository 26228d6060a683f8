"""Kernel names of bpf(2) that ckpt uses, verbatim. Source: include/uapi/linux/bpf.h, bpf_common.h."""

from __future__ import annotations

import struct

SYS_bpf = 321
BPF_MAP_CREATE = 0
BPF_MAP_LOOKUP_ELEM = 1
BPF_MAP_UPDATE_ELEM = 2
BPF_MAP_GET_NEXT_KEY = 4
BPF_PROG_LOAD = 5
BPF_PROG_TEST_RUN = 10
BPF_MAP_GET_FD_BY_ID = 14
BPF_OBJ_GET_INFO_BY_FD = 15
BPF_RAW_TRACEPOINT_OPEN = 17
BPF_MAP_FREEZE = 22
BPF_MAP_TYPE_HASH = 1
BPF_MAP_TYPE_ARRAY = 2
BPF_MAP_TYPE_PERCPU_HASH = 5
BPF_MAP_TYPE_PERCPU_ARRAY = 6
BPF_MAP_TYPE_LRU_HASH = 9
BPF_MAP_TYPE_LRU_PERCPU_HASH = 10
BPF_MAP_TYPE_LPM_TRIE = 11
ARRAY_MAPS = frozenset({BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY})
PERCPU_MAPS = frozenset({BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_LRU_PERCPU_HASH})
PLAIN_MAPS = ARRAY_MAPS | PERCPU_MAPS | {BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LPM_TRIE}
BPF_F_NUMA_NODE = 1 << 2
BPF_F_RDONLY = 1 << 3
BPF_F_WRONLY = 1 << 4
BPF_F_MMAPABLE = 1 << 10
BPF_PROG_TYPE_RAW_TRACEPOINT = 17
BPF_PROG_TYPE_SYSCALL = 31
BPF_F_SLEEPABLE = 1 << 4
BPF_PSEUDO_MAP_FD = 1
BPF_PSEUDO_MAP_VALUE = 2
BPF_FUNC_map_update_elem = 2
BPF_FUNC_get_current_pid_tgid = 14
BPF_FUNC_get_current_task = 35
BPF_FUNC_probe_read_kernel = 113
BPF_FUNC_get_ns_current_pid_tgid = 120
BPF_FUNC_map_lookup_percpu_elem = 195

map_create_attr = struct.Struct("<5I")  # map_type, key_size, value_size, max_entries, map_flags
map_create_long_attr = struct.Struct("<5I8x16s24xQ")
"""map_type, key_size, value_size, max_entries, map_flags, name, map_extra"""
map_by_id_attr = struct.Struct("<3I")  # map_id, next_id, open_flags
obj_info_attr = struct.Struct("<IIQ")  # bpf_fd, info_len, info
bpf_map_info = struct.Struct("<6I16s40xQ")  # type, id, key_size, value_size, max_entries, map_flags, name, map_extra
map_elem_attr = struct.Struct("<I4xQQQ")  # map_fd, key, value, flags
prog_load_attr = struct.Struct("<IIQQIIQII")
"""prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags"""
prog_test_run_attr = struct.Struct("<4IQQ4IQQ3I4x")
"""prog_fd, retval, data_size_in, _out, data_in, _out, repeat, duration, ctx_size_in, _out, ctx_in, _out, flags, …"""
raw_tracepoint_attr = struct.Struct("<QI4x")  # name, prog_fd
bpf_insn = struct.Struct("<BBhi")  # code, dst_reg | src_reg << 4, off, imm

R0, R1, R2, R3, R4, R6, R7, R8, R9, R10 = 0, 1, 2, 3, 4, 6, 7, 8, 9, 10
LDX_DW = 0x79  # BPF_LDX | BPF_MEM | BPF_DW
STX_W = 0x63  # BPF_STX | BPF_MEM | BPF_W
STX_DW = 0x7B  # BPF_STX | BPF_MEM | BPF_DW
LD_IMM64 = 0x18
MOV_X = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
MOV_K = 0xB7
ADD_K = 0x07
JA = 0x05  # BPF_JMP | BPF_JA
JEQ_K = 0x15
JGT_K = 0x25
JNE_K = 0x55
JEQ_X = 0x1D
JNE_X = 0x5D
CALL = 0x85
EXIT = 0x95
