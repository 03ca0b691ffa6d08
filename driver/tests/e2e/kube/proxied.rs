//! A cluster behind a proxy: `proxy-url` of a kubeconfig, as people behind a company's gateway have it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::scene::Scene;
use crate::support::splice::splice;
use crate::support::tools::changed_kubeconfig;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Http,
    Socks5,
}

/// A proxy on loopback, for as long as the test's process lives.
struct Proxy {
    address: SocketAddr,
    /// Connections that it made for its clients.
    made: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("a port of our own");
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                thread::spawn(move || {
                    let server = match kind {
                        Kind::Http => connect(&client),
                        Kind::Socks5 => socks(&client),
                    };
                    if let Ok(server) = server {
                        counted.fetch_add(1, Ordering::Relaxed);
                        splice(client, server);
                    }
                });
            }
        });
        Self { address, made }
    }
}

/// `CONNECT host:port`, RFC 9110 9.3.6.
fn connect(mut client: &TcpStream) -> std::io::Result<TcpStream> {
    let mut lines = BufReader::new(client);
    let mut request = String::new();
    lines.read_line(&mut request)?;
    let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
    assert!(request.starts_with("CONNECT "), "{request}");
    let mut header = String::new();
    while lines.read_line(&mut header)? > 2 {
        header.clear();
    }
    let server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    Ok(server)
}

/// RFC 1928, without authentication, for names and IPv4 addresses.
fn socks(mut client: &TcpStream) -> std::io::Result<TcpStream> {
    let [_version, methods] = take(client)?;
    for _ in 0..methods {
        let [_] = take(client)?;
    }
    client.write_all(&[5, 0])?;
    let [_version, _command, _reserved, kind] = take(client)?;
    let host = match kind {
        1 => Ipv4Addr::from(take::<4>(client)?).to_string(),
        3 => {
            let [length] = take(client)?;
            let mut name = vec![0; length.into()];
            client.read_exact(&mut name)?;
            String::from_utf8(name).expect("a name")
        }
        other => panic!("addresses of type {other} are not known here"),
    };
    let server = TcpStream::connect((host, u16::from_be_bytes(take(client)?)))?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(server)
}

fn take<const COUNT: usize>(mut client: &TcpStream) -> std::io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_cluster_behind_a_proxy_is_reached_through_it_by_requests_and_by_tunnels() {
    for (kind, scheme) in [(Kind::Http, "http"), (Kind::Socks5, "socks5")] {
        let scene = Scene::kube();
        let proxy = Proxy::start(kind);
        let file = kubeconfig(&scene, &format!("{scheme}://{}", proxy.address));
        for transport in ["exec", "port-forward"] {
            let options = format!("namespace={},transport={transport}", scene.namespace().name());
            let given =
                format!("--driver kubernetes --kubeconfig {} --driver-opt {options} --bootstrap", file.display());
            let builder = scene.create("proxied", &given);
            let before = proxy.made.load(Ordering::Relaxed);
            assert!(before > 0, "{scheme}: nothing went through the proxy");
            builder.buildx(&scene.contexts().hello(), "").succeeds().says("machine: x86_64");
            println!("{scheme}, {transport}: {} connections", proxy.made.load(Ordering::Relaxed));
            builder.remove();
        }
    }
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let scene = Scene::kube();
    let file = kubeconfig(&scene, "http://127.0.0.1:1");
    let create =
        format!("create --name doomed --driver kubernetes --kubeconfig {} --timeout 8s --bootstrap", file.display());
    scene.buildfleet(&create).fails().says("127.0.0.1:1");
    scene.has_no_builder();
}

/// The cluster's own file, with a proxy in it.
fn kubeconfig(scene: &Scene, proxy: &str) -> PathBuf {
    let file = scene.path("proxied.json");
    changed_kubeconfig(&file, |config| config["clusters"][0]["cluster"]["proxy-url"] = proxy.into());
    file
}
