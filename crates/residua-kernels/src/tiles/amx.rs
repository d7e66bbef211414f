//! Intel's AMX: eight registers of sixteen rows of 64 bytes. The standard library has no stable functions for it, so it is assembly.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use super::{AHEAD, Numbers, Operands, SIDE};
use crate::view::ViewMut;

/// Whether the processor has it for such numbers, and the system lets this process use it.
pub(super) fn is_available(numbers: Numbers) -> bool {
    static IS_AVAILABLE: [OnceLock<bool>; 2] = [const { OnceLock::new() }; 2];
    *IS_AVAILABLE[numbers as usize].get_or_init(|| has_instructions(numbers) && is_permitted())
}

fn has_instructions(numbers: Numbers) -> bool {
    const TILE: u32 = 1 << 24;
    let of_numbers = match numbers {
        Numbers::Bf16 => 1 << 22,
        Numbers::Int8 => 1 << 25,
    };
    if __cpuid_count(0, 0).eax < 7 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // Every processor with AMX has the latter two, too.
    features & (of_numbers | TILE) == of_numbers | TILE
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bf16")
}

/// Linux gives the registers, of eight kilobytes, only to processes that ask; threads have them from then on, too.
fn is_permitted() -> bool {
    const REQUEST: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call changes nothing but what this process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
}

/// Rows and bytes of a row of each register, as the processor reads them.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    first_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Registers 0 to 3 are for sums, 4 and 5 for rows, 6 and 7 for weights.
#[inline(always)]
pub(super) unsafe fn begin(slots: usize) {
    let mut configuration =
        Configuration { palette: 1, first_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    for register in 0..8 {
        let (rows, bytes) = match register {
            0..4 => (SIDE, SIDE * size_of::<f32>()),
            4 | 5 => (SIDE, slots * size_of::<f32>()),
            _ => (slots, SIDE * size_of::<f32>()),
        };
        configuration.rows[register] = rows as u8;
        configuration.row_bytes[register] = bytes as u16;
    }
    // SAFETY: the machine has AMX, as the caller promises; the configuration is one.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) };
}

#[inline(always)]
pub(super) unsafe fn end() {
    // SAFETY: the machine has AMX, as the caller promises.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Bytes of a row of weights or, of one block, of results.
const LINE: usize = SIDE * size_of::<f32>();

/// A loop over `steps` steps.
macro_rules! steps {
    ($operands:ident, $distance:ident, $a:ident, $b:ident, [$($ahead:tt)*], $($instruction:expr),+) => {
        asm!(
            "2:",
            $($instruction,)+
            "add {a}, {a_step}",
            "add {a1}, {a_step}",
            "add {b}, {b_step}",
            "add {b1}, {b_step}",
            "dec {steps}",
            "jnz 2b",
            a = inout(reg) $a => _,
            a1 = inout(reg) $a.wrapping_add(SIDE * $distance) => _,
            b = inout(reg) $b => _,
            b1 = inout(reg) $b.wrapping_add($operands.block_len()) => _,
            steps = inout(reg) $operands.steps => _,
            distance = in(reg) $distance,
            line = in(reg) LINE,
            a_step = in(reg) $operands.slots() * size_of::<f32>(),
            b_step = in(reg) $operands.slots() * LINE,
            $($ahead)*
            options(nostack, readonly),
        )
    };
}

/// All runs, their products by this instruction.
macro_rules! runs {
    ($dot:literal, $operands:ident, $R:ident, $C:ident) => {{
        let Operands { rows, start, distance, pitch, weights, runs, steps, depth, ahead, .. } = $operands;
        let row_len = ($R * SIDE - 1) * distance + steps * depth;
        let apart = rows.bytes(distance);
        for run in 0..runs {
            let a = rows.pointer(start + run * pitch, row_len);
            let b = weights.from(run * steps * $operands.slots() * SIDE).pointer();
            match ($R, $C) {
                (2, 2) if !ahead.are_none() => steps!(
                    $operands,
                    apart,
                    a,
                    b,
                    [ahead = inout(reg) ahead.skip(run * steps * AHEAD).pointer() => _,],
                    "tileloadd tmm4, [{a} + {distance}]",
                    "tileloadd tmm6, [{b} + {line}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    ".irp line,0,64,128,192,256,320,384,448",
                    "prefetcht1 [{ahead} + \\line]",
                    ".endr",
                    "add {ahead}, 512",
                    "tileloadd tmm7, [{b1} + {line}]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "tileloadd tmm5, [{a1} + {distance}]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7")
                ),
                (2, 2) => steps!(
                    $operands,
                    apart,
                    a,
                    b,
                    [],
                    "tileloadd tmm4, [{a} + {distance}]",
                    "tileloadd tmm6, [{b} + {line}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{b1} + {line}]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "tileloadd tmm5, [{a1} + {distance}]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7")
                ),
                (2, _) => steps!(
                    $operands,
                    apart,
                    a,
                    b,
                    [],
                    "tileloadd tmm6, [{b} + {line}]",
                    "tileloadd tmm4, [{a} + {distance}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm5, [{a1} + {distance}]",
                    concat!($dot, " tmm2, tmm5, tmm6")
                ),
                (_, 2) => steps!(
                    $operands,
                    apart,
                    a,
                    b,
                    [],
                    "tileloadd tmm4, [{a} + {distance}]",
                    "tileloadd tmm6, [{b} + {line}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{b1} + {line}]",
                    concat!($dot, " tmm1, tmm4, tmm7")
                ),
                _ => steps!(
                    $operands,
                    apart,
                    a,
                    b,
                    [],
                    "tileloadd tmm4, [{a} + {distance}]",
                    "tileloadd tmm6, [{b} + {line}]",
                    concat!($dot, " tmm0, tmm4, tmm6")
                ),
            }
        }
    }};
}

#[inline(always)]
pub(super) unsafe fn multiply<const R: usize, const C: usize>(operands: Operands, results: ViewMut) {
    // SAFETY: rows, weights and results have the lengths that the loops go through, and the registers are configured, as the
    // caller promises.
    unsafe {
        asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        match operands.numbers {
            Numbers::Bf16 => runs!("tdpbf16ps", operands, R, C),
            Numbers::Int8 => runs!("tdpbusd", operands, R, C),
        }
        let to = results.slice(0, super::RESULTS).as_mut_ptr();
        macro_rules! store {
            ($instruction:literal, $row:expr, $block:expr) => {
                asm!(
                    $instruction,
                    to = in(reg) to.add($row * SIDE * 2 * SIDE + $block * SIDE),
                    pitch = in(reg) 2 * LINE,
                    options(nostack),
                )
            };
        }
        store!("tilestored [{to} + {pitch}], tmm0", 0, 0);
        if C == 2 {
            store!("tilestored [{to} + {pitch}], tmm1", 0, 1);
        }
        if R == 2 {
            store!("tilestored [{to} + {pitch}], tmm2", 1, 0);
            if C == 2 {
                store!("tilestored [{to} + {pitch}], tmm3", 1, 1);
            }
        }
    }
}
