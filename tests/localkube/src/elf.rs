//! Owns telling whether a binary runs in an image that holds nothing else. Pure.

use anyhow::{Result, bail, ensure};

/// Program header that names a dynamic loader (`PT_INTERP` of elf(5)).
const INTERPRETER: u32 = 3;

/// Makes sure that `binary` is a 64-bit Linux program without a dynamic loader.
///
/// # Errors
/// Says what it is instead and how to build it.
pub(crate) fn check_static(binary: &[u8]) -> Result<()> {
    ensure!(binary.starts_with(b"\x7fELF\x02\x01"), "it is not a 64-bit little-endian Linux program");
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let field = binary.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    // The places are those of the 64-bit header: offset, size and count of the program headers.
    let (Some(offset), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        bail!("it is cut off");
    };
    for index in 0..count {
        let header = size.checked_mul(index).and_then(|at| at.checked_add(offset));
        let Some(kind) = header.and_then(|at| number(at, 4)) else { bail!("it is cut off") };
        ensure!(
            kind != INTERPRETER as usize,
            "it is dynamically linked, and an image of this binary alone has no loader for it; build it with \
             RUSTFLAGS=\"-C target-feature=+crt-static\" cargo build --target x86_64-unknown-linux-gnu"
        );
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A header and program headers of the given kinds, nothing else.
    pub(crate) fn program(kinds: &[u32]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(64, 0);
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = kinds.len() as u8;
        for kind in kinds {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn a_program_without_a_loader_is_accepted() {
        assert!(check_static(&program(&[1, 2])).is_ok());
    }

    #[test]
    fn a_program_with_a_loader_is_refused_with_advice() {
        let error = check_static(&program(&[1, INTERPRETER])).unwrap_err().to_string();
        assert!(error.contains("crt-static"), "{error}");
    }

    #[test]
    fn what_is_no_program_or_half_of_one_is_refused() {
        let whole = program(&[1, 2]);
        for bytes in [&b"#!/bin/sh\n"[..], &whole[..20], &whole[..100]] {
            assert!(check_static(bytes).is_err());
        }
    }

    #[test]
    fn this_test_itself_is_dynamically_linked() {
        let binary = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(check_static(&binary).is_err());
    }
}
