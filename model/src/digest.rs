//! Several checksums of a stream in one pass.

use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::content::{Algorithm, Checksum};

/// Computes several checksums of the bytes that it receives.
#[derive(Clone)]
pub struct Digester {
    hashers: Vec<ChecksumHasher>,
    bytes: u64,
}

#[derive(Clone)]
enum ChecksumHasher {
    Crc64Nvme(Box<crc_fast::Digest>),
    Md5(Box<Md5>),
    Sha256(Box<Sha256>),
}

impl Digester {
    /// Starts one checksum for each algorithm, in this order.
    pub fn new(algorithms: &[Algorithm]) -> Self {
        let hashers = algorithms
            .iter()
            .map(|algorithm| match algorithm {
                Algorithm::Crc64Nvme => {
                    ChecksumHasher::Crc64Nvme(Box::new(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme)))
                }
                Algorithm::Md5 => ChecksumHasher::Md5(Box::default()),
                Algorithm::Sha256 => ChecksumHasher::Sha256(Box::default()),
            })
            .collect();
        Self { hashers, bytes: 0 }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for hasher in &mut self.hashers {
            match hasher {
                ChecksumHasher::Crc64Nvme(crc) => crc.update(bytes),
                ChecksumHasher::Md5(md5) => md5.update(bytes),
                ChecksumHasher::Sha256(sha) => sha.update(bytes),
            }
        }
    }

    /// The number of bytes added.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The checksums, in the order of the algorithms.
    pub fn finish(self) -> Vec<Checksum> {
        self.hashers
            .into_iter()
            .map(|hasher| match hasher {
                ChecksumHasher::Crc64Nvme(crc) => {
                    Checksum { algorithm: Algorithm::Crc64Nvme, value: crc.finalize().to_be_bytes().into() }
                }
                ChecksumHasher::Md5(md5) => {
                    Checksum { algorithm: Algorithm::Md5, value: md5.finalize().to_vec().into() }
                }
                ChecksumHasher::Sha256(sha) => {
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
        let mut digester = Digester::new(&[Algorithm::Md5, Algorithm::Sha256, Algorithm::Crc64Nvme]);
        digester.update(b"1234");
        digester.update(b"56789");
        assert_eq!(digester.bytes(), 9);
        let sums: Vec<String> = digester.finish().iter().map(ToString::to_string).collect();
        assert_eq!(sums[0], "md5:25f9e794323b453885f5181f1b624d0b");
        assert_eq!(sums[1], "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
        // The check value of CRC-64/NVME. Source: catalogue of parametrised CRC algorithms (G. Cook).
        assert_eq!(sums[2], "crc64nvme:ae8b14860a799888");
    }
}
