//! The entries of a tar archive: POSIX headers, with GNU's for what does not fit into one. Pure.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BLOCK: usize = 512;

const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What ends an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// How much of a name fits into a header.
const NAME: usize = 100;

/// The largest size that fits as octal digits.
const LARGEST: u64 = 0o77_777_777_777;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
}

/// One entry, of nobody in particular: owners mean nothing on another machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Of a directory with a slash at its end.
    pub(super) name: &'a [u8],
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) modified: u64,
    /// What a symlink says.
    pub(super) target: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(super) fn new(name: &'a str, kind: Kind) -> Self {
        Self { name: name.as_bytes(), kind, mode: 0o644, size: 0, modified: 0, target: b"" }
    }
}

/// All that stands before an entry's content.
pub(super) fn entry(entry: &Entry<'_>) -> Vec<u8> {
    let mut blocks = Vec::with_capacity(BLOCK);
    for (flag, text) in [(b'K', entry.target), (b'L', entry.name)] {
        if text.len() > NAME {
            // GNU's way, which busybox reads as well: an entry whose content is the name of the next one.
            let size = text.len() as u64 + 1;
            blocks.extend(header(&Entry { size, ..Entry::new("././@LongLink", Kind::File) }, flag));
            blocks.extend(text);
            blocks.push(0);
            blocks.extend(padding(size));
        }
    }
    let flag = match entry.kind {
        Kind::File => b'0',
        Kind::Symlink => b'2',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    blocks.extend(header(entry, flag));
    blocks
}

/// What fills the last block of a content of that size.
pub(super) fn padding(size: u64) -> &'static [u8] {
    let rest = (size % BLOCK as u64) as usize;
    if rest == 0 { &[] } else { &ZEROS[rest..] }
}

/// The bytes of a path as archives have them: without what leads to its beginning.
pub(super) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Whether these are the first bytes of an archive: POSIX's and GNU's have the same word at this place.
pub(super) fn is_archive(first: &[u8]) -> bool {
    first.get(257..262) == Some(b"ustar")
}

fn header(entry: &Entry<'_>, flag: u8) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &entry.name[..entry.name.len().min(NAME)]);
    put(100, format!("{:07o}", entry.mode & 0o7777).as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, &number(entry.size));
    put(136, &number(entry.modified));
    // The sum is taken with spaces in its own place.
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &entry.target[..entry.target.len().min(NAME)]);
    put(257, b"ustar");
    put(263, b"00");
    let total: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{total:06o}\0 ").as_bytes());
    block
}

/// Octal digits; what is too large for them is binary, as GNU marks it.
fn number(value: u64) -> [u8; 12] {
    let mut field = [0; 12];
    if value <= LARGEST {
        field[..11].copy_from_slice(format!("{value:011o}").as_bytes());
    } else {
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_its_sum() {
        let block = entry(&Entry { size: 0o123, ..Entry::new("index.json", Kind::File) });
        let told = std::str::from_utf8(&block[148..154]).expect("octal");
        let spaces =
            block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) });
        assert_eq!(u32::from_str_radix(told, 8).expect("octal"), spaces.sum::<u32>());
        assert_eq!((&block[124..136], &block[100..108]), (&b"00000000123\0"[..], &b"0000644\0"[..]));
        assert!(is_archive(&block) && !is_archive(b"FROM scratch\n"));
    }

    #[test]
    fn what_does_not_fit_has_an_entry_of_its_own() {
        let (name, target) = ("n".repeat(101), "t".repeat(600));
        let long = Entry { target: target.as_bytes(), ..Entry::new(&name, Kind::Symlink) };
        let blocks = entry(&long);
        // Of the target one header and two blocks, of the name one and one, and the entry's own.
        assert_eq!(blocks.len(), 6 * BLOCK);
        assert_eq!((blocks[156], blocks[3 * BLOCK + 156], blocks[5 * BLOCK + 156]), (b'K', b'L', b'2'));
        assert_eq!(&blocks[4 * BLOCK..4 * BLOCK + 102], format!("{name}\0").as_bytes());
        assert_eq!(number(LARGEST), *b"77777777777\0");
        assert_eq!(number(LARGEST + 1), [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn contents_end_with_their_block() {
        assert_eq!([0, 1, 512, 513].map(|size| padding(size).len()), [0, 511, 0, 511]);
    }
}
