//! Several checksums of a stream in one pass.

use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::content::{Algorithm, Checksum};

/// Computes checksums of the bytes it is shown.
#[derive(Clone)]
pub struct Digester {
    running: Vec<Running>,
    bytes: u64,
}

#[derive(Clone)]
enum Running {
    Md5(Box<Md5>),
    Sha256(Box<Sha256>),
}

impl Digester {
    /// Begins one checksum for each algorithm named, in that order.
    pub fn new(algorithms: &[Algorithm]) -> Self {
        let running = algorithms
            .iter()
            .map(|algorithm| match algorithm {
                Algorithm::Md5 => Running::Md5(Box::default()),
                Algorithm::Sha256 => Running::Sha256(Box::default()),
            })
            .collect();
        Self { running, bytes: 0 }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for running in &mut self.running {
            match running {
                Running::Md5(md5) => md5.update(bytes),
                Running::Sha256(sha) => sha.update(bytes),
            }
        }
    }

    /// How many bytes were taken in.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The checksums, in the order asked for.
    pub fn finish(self) -> Vec<Checksum> {
        self.running
            .into_iter()
            .map(|running| match running {
                Running::Md5(md5) => Checksum { algorithm: Algorithm::Md5, value: md5.finalize().to_vec().into() },
                Running::Sha256(sha) => {
                    Checksum { algorithm: Algorithm::Sha256, value: sha.finalize().to_vec().into() }
                }
            })
            .collect()
    }
}

impl std::fmt::Debug for Digester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digester").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let mut digester = Digester::new(&[Algorithm::Md5, Algorithm::Sha256]);
        digester.update(b"a");
        digester.update(b"bc");
        assert_eq!(digester.bytes(), 3);
        let sums: Vec<String> = digester.finish().iter().map(ToString::to_string).collect();
        assert_eq!(sums[0], "md5:900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(sums[1], "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
