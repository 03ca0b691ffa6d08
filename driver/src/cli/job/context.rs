//! The context of a build as a gzipped tar archive, written piece by piece while it is sent.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use self::pattern::{Matched, Patterns};
use crate::cli::tar::{self, Entry, Kind};

pub(super) mod pattern;
pub(super) mod pieces;

/// What is read of a file at a time.
const READ: usize = 128 * 1024;

/// Why a context could not be packed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} changed while it was read", path.display())]
    Changed { path: PathBuf },
    #[error("failed to read stdin")]
    Stdin(#[source] io::Error),
    /// Whoever takes the archive is gone and says why.
    #[error("the archive is not wanted any more")]
    Unwanted(#[source] io::Error),
}

/// What goes into an archive.
#[derive(Debug)]
pub(super) enum Content {
    Tree(Tree),
    /// An archive from stdin, whose beginning was read to find out what it is.
    Stdin {
        beginning: Vec<u8>,
        gzipped: bool,
    },
}

/// Directories and files of this machine, and where they are in the archive.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// What `.dockerignore` leaves out is not sent.
    pub(super) directory: Option<Directory>,
    /// By their names in the archive.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) root: PathBuf,
    /// Where it is in the archive: empty, or with a slash at its end.
    pub(super) place: String,
    pub(super) patterns: Patterns,
    /// Sent although they are left out: BuildKit reads them apart from the context.
    pub(super) always: Vec<PathBuf>,
}

impl Content {
    /// Writes the whole archive. Blocks.
    pub(super) fn pack(self, out: impl Write) -> Result<(), PackError> {
        match self {
            Self::Stdin { beginning, gzipped: true } => {
                copy_stdin(&beginning, out).and_then(|mut out| out.flush().map_err(PackError::Unwanted))
            }
            Self::Stdin { beginning, gzipped: false } => {
                let out = copy_stdin(&beginning, GzEncoder::new(out, Compression::fast()))?;
                out.finish().and_then(|mut out| out.flush()).map_err(PackError::Unwanted)
            }
            Self::Tree(tree) => {
                let mut packer = Packer { out: GzEncoder::new(out, Compression::fast()), buffer: vec![0; READ] };
                packer.tree(&tree)?;
                packer.write(&tar::END)?;
                packer.out.finish().and_then(|mut out| out.flush()).map_err(PackError::Unwanted)
            }
        }
    }
}

fn copy_stdin<W: Write>(beginning: &[u8], mut out: W) -> Result<W, PackError> {
    out.write_all(beginning).map_err(PackError::Unwanted)?;
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; READ];
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => return Ok(out),
            Ok(read) => out.write_all(&buffer[..read]).map_err(PackError::Unwanted)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PackError::Stdin(error)),
        }
    }
}

struct Packer<W: Write> {
    out: GzEncoder<W>,
    buffer: Vec<u8>,
}

/// A directory on the way to what is packed.
struct Level<'a> {
    path: PathBuf,
    matched: Matched,
    /// Left out itself, and so packed only when something in it is.
    pending: Option<&'a Level<'a>>,
    packed: std::cell::Cell<bool>,
}

impl<W: Write> Packer<W> {
    fn tree(&mut self, tree: &Tree) -> Result<(), PackError> {
        if let Some(directory) = &tree.directory {
            let root = Level {
                path: PathBuf::new(),
                matched: Matched::default(),
                pending: None,
                packed: std::cell::Cell::new(true),
            };
            let mut rest = directory.always.clone();
            self.level(directory, &root, &mut rest)?;
            for path in rest {
                let Some(meta) = found(&directory.root.join(&path))? else { continue };
                self.one(directory, &path, &meta)?;
            }
        }
        for (name, bytes) in &tree.files {
            let entry = Entry { size: bytes.len() as u64, ..Entry::new(name, Kind::File) };
            self.write(&tar::entry(&entry))?;
            self.write(bytes)?;
            self.write(tar::padding(entry.size))?;
        }
        Ok(())
    }

    /// What lies in a directory, by name: the same context is the same archive.
    fn level(&mut self, of: &Directory, level: &Level<'_>, always: &mut Vec<PathBuf>) -> Result<(), PackError> {
        let is_root = level.path == Path::new("");
        let here = if is_root { of.root.clone() } else { of.root.join(&level.path) };
        let failed = |source| PackError::Read { path: here.clone(), source };
        let listed = fs::read_dir(&here).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut names = match listed {
            Ok(entries) => entries.iter().map(fs::DirEntry::file_name).collect::<Vec<_>>(),
            // Nobody asked for it.
            Err(error) if !level.packed.get() && error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_root => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        names.sort();
        for name in names {
            let path = level.path.join(&name);
            let (out, matched) = of.patterns.leave_out(path.as_os_str().as_bytes(), &level.matched);
            let out = out && !always.contains(&path);
            let Some(meta) = found(&of.root.join(&path))? else { continue };
            if out && !(meta.is_dir() && of.patterns.may_except_below(path.as_os_str().as_bytes())) {
                continue;
            }
            if !out {
                self.parents(of, level)?;
                self.one(of, &path, &meta)?;
                always.retain(|always| *always != path);
            }
            if meta.is_dir() {
                let below = Level { path, matched, pending: Some(level), packed: std::cell::Cell::new(!out) };
                self.level(of, &below, always)?;
            }
        }
        Ok(())
    }

    /// The directories that were left out until now.
    fn parents(&mut self, of: &Directory, level: &Level<'_>) -> Result<(), PackError> {
        if level.packed.replace(true) {
            return Ok(());
        }
        if let Some(above) = level.pending {
            self.parents(of, above)?;
        }
        match found(&of.root.join(&level.path))? {
            Some(meta) => self.one(of, &level.path, &meta),
            None => Ok(()),
        }
    }

    fn one(&mut self, of: &Directory, path: &Path, meta: &Metadata) -> Result<(), PackError> {
        let file = of.root.join(path);
        let kind = match meta.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Symlink,
            kind if kind.is_fifo() => Kind::Fifo,
            kind if kind.is_file() => Kind::File,
            // Sockets and devices mean nothing elsewhere.
            _ => return Ok(()),
        };
        let mut name = [of.place.as_bytes(), tar::bytes(path)].concat();
        if kind == Kind::Directory {
            name.push(b'/');
        }
        let target = match kind {
            Kind::Symlink => fs::read_link(&file).map_err(|source| PackError::Read { path: file.clone(), source })?,
            _ => PathBuf::new(),
        };
        let size = if kind == Kind::File { meta.len() } else { 0 };
        let modified = u64::try_from(meta.mtime()).unwrap_or(0);
        let entry = Entry { name: &name, kind, mode: meta.mode(), size, modified, target: tar::bytes(&target) };
        if kind != Kind::File {
            return self.write(&tar::entry(&entry));
        }
        // Opened first: a file without its entry is nothing, an entry without its file spoils the archive.
        let mut open = match File::open(&file) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(PackError::Read { path: file, source }),
        };
        self.write(&tar::entry(&entry))?;
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match open.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(PackError::Changed { path: file }),
                Ok(read) => {
                    self.out.write_all(&self.buffer[..read]).map_err(PackError::Unwanted)?;
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(PackError::Read { path: file, source }),
            }
        }
        self.write(tar::padding(size))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.out.write_all(bytes).map_err(PackError::Unwanted)
    }
}

/// What is there now; a directory's entry may be gone already.
fn found(path: &Path) -> Result<Option<Metadata>, PackError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PackError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
