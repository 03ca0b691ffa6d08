//! Who may bind, who may connect, and what is left alone.

use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;

use nix::sys::socket::{Shutdown, shutdown};

use super::*;

fn dir() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn directories_are_0700_and_sockets_0600() {
    let dir = dir();
    let path = dir.path().join("run/nodes/kube0.sock");
    let socket = PrivateSocket::bind(&path).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&dir.path().join("run/nodes")), 0o700);
    assert_eq!(mode(&dir.path().join("run")), 0o700);
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_directory_that_others_can_enter_is_refused_and_left_as_it_is() {
    let dir = dir();
    for bits in [0o750, 0o705, 0o770, 0o711] {
        fs::set_permissions(dir.path(), Permissions::from_mode(bits)).unwrap();
        let error = PrivateSocket::bind(&dir.path().join("s.sock")).await.unwrap_err();
        assert!(matches!(error, BindError::Directory(DirectoryError::Open { mode, .. }) if mode == bits), "{error}");
        assert_eq!(mode(dir.path()), bits);
    }
}

#[tokio::test]
async fn a_directory_of_somebody_else_is_refused() {
    // `/` is root's; for root itself a directory is given away.
    let dir = dir();
    let path = if directory::owner() == 0 {
        std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
        dir.path().to_owned()
    } else {
        PathBuf::from("/")
    };
    let error = private_directory(&path).unwrap_err();
    assert!(matches!(error, DirectoryError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let dir = dir();
    let path = dir.path().join("s.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = PrivateSocket::bind(&path).await.unwrap();
    let (client, (_, peer)) = tokio::join!(UnixStream::connect(&path), socket.accept());
    client.unwrap();
    assert_eq!(peer.uid, directory::owner());
    assert_eq!(peer.pid, Some(std::process::id().cast_signed()));
}

#[tokio::test]
async fn a_socket_that_answers_is_in_use() {
    let dir = dir();
    let path = dir.path().join("s.sock");
    let first = PrivateSocket::bind(&path).await.unwrap();
    let error = PrivateSocket::bind(&path).await.unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    assert!(path.exists());
    drop(first);
    PrivateSocket::bind(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_never_removed() {
    let dir = dir();
    let (file, link, target) = (dir.path().join("f"), dir.path().join("l"), dir.path().join("t"));
    fs::write(&file, "precious").unwrap();
    drop(std::os::unix::net::UnixListener::bind(&target).unwrap());
    symlink(&target, &link).unwrap();
    for path in [&file, &link] {
        let error = PrivateSocket::bind(path).await.unwrap_err();
        assert!(matches!(error, BindError::Foreign(_)), "{error}");
        assert!(fs::symlink_metadata(path).is_ok());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn only_its_own_file_is_removed_in_the_end() {
    let dir = dir();
    let path = dir.path().join("s.sock");
    let socket = PrivateSocket::bind(&path).await.unwrap();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    fs::write(&path, "somebody else's").unwrap();
    drop(socket);
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody else's");
}

#[tokio::test]
async fn of_many_that_find_the_same_stale_socket_one_gets_it() {
    let dir = dir();
    let path = dir.path().join("s.sock");
    // Closing it would leave it to the programs that other tests are starting.
    shutdown(std::os::unix::net::UnixListener::bind(&path).unwrap().as_raw_fd(), Shutdown::Both).unwrap();
    let tries = futures::future::join_all((0..16).map(|_| PrivateSocket::bind(&path))).await;
    assert_eq!(tries.iter().filter(|bound| bound.is_ok()).count(), 1);
    for error in tries.iter().filter_map(|bound| bound.as_ref().err()) {
        assert!(matches!(error, BindError::InUse(_)), "{error}");
    }
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn an_inherited_socket_is_left_in_place() {
    let dir = dir();
    let path = dir.path().join("s.sock");
    let socket = PrivateSocket::inherited(std::os::unix::net::UnixListener::bind(&path).unwrap()).unwrap();
    let (client, _) = tokio::join!(UnixStream::connect(&path), socket.accept());
    client.unwrap();
    drop(socket);
    assert!(path.exists());
}

#[test]
fn the_owner_and_root_may_enter() {
    for (uid, owner, wanted) in
        [(1000, 1000, true), (0, 1000, true), (1001, 1000, false), (1000, 0, false), (0, 0, true)]
    {
        assert_eq!(may_enter(uid, owner), wanted, "uid {uid} at a socket of {owner}");
    }
}
