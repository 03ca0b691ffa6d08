//! FNV-1a: a hash that is the same in every version of this program and of its compiler, unlike `DefaultHasher`.

/// The hash of these bytes, 64 bits wide. It keeps nothing secret, and hardly mixes the last bytes into the high bits.
pub(crate) fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
