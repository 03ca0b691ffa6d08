//! Puts a unix socket in front of one pod of a kubernetes node, by one transport, without the proxy: what a transport costs
//! is measured with this and `buildctl --addr unix://SOCKET build`. The node has the socket's name.
//!
//!     pod_socket KUBECONFIG SOCKET DRIVER_OPT...      e.g. namespace=builds transport=port-forward

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use buildfleet::backend::kubernetes::{KubernetesBackend, KubernetesNode, resolve_context};
use buildfleet::backend::{Backend, Installation, PodPhase, Removal};
use buildfleet::builder::{Driver, Endpoint, Node};
use buildfleet::options::{DriverOptions, split_driver_opts};
use buildfleet::report::chain;
use tokio::io::copy_bidirectional_with_sizes;

/// Large, so that what is measured is the transport.
const BUFFER: usize = 128 * 1024;

type BoxError = Box<dyn std::error::Error>;

// One thread, as the daemon has on two cores.
#[tokio::main(worker_threads = 1)]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(kubeconfig), Some(socket)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pod_socket KUBECONFIG SOCKET DRIVER_OPT...".into());
    };
    let driver_opts = split_driver_opts(&arguments.collect::<Vec<_>>())?;
    let DriverOptions::Kubernetes(options) = DriverOptions::parse(Driver::Kubernetes, &driver_opts)? else {
        return Err("no kubernetes options".into());
    };
    let (context, _) = resolve_context(vec![PathBuf::from(kubeconfig)], None)?;
    let node = Node {
        name: Path::new(&socket).file_stem().unwrap_or_default().to_string_lossy().parse()?,
        endpoint: Endpoint::Kubernetes(context.clone()),
        driver_opts,
        platforms: Vec::new(),
        buildkitd_flags: Vec::new(),
        config: None,
    };
    let begun = Instant::now();
    let us = Installation { id: "pod-socket".to_owned(), who: "the example pod_socket".to_owned() };
    let node = KubernetesNode { node, context, options, api_server: None, us };
    let backend = Arc::new(KubernetesBackend::start(node));
    if let Err(error) = backend.apply(1).await {
        return Err(chain(&error).into());
    }
    println!("{:>6} ms applied", begun.elapsed().as_millis());
    let pod = first_answer(&*backend, begun).await;
    for _ in 0..5 {
        let begun = Instant::now();
        let dialed = backend.dial(&pod).await;
        println!("{:>6.1} ms {dialed:?}", begun.elapsed().as_secs_f64() * 1000.0);
    }
    let _ = std::fs::remove_file(&socket);
    let listener = tokio::net::UnixListener::bind(&socket)?;
    println!("listening on {socket}");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tokio::signal::ctrl_c() => break,
        };
        let (mut client, _) = accepted?;
        let (backend, pod) = (Arc::clone(&backend), pod.clone());
        tokio::spawn(async move {
            match backend.dial(&pod).await {
                Ok(mut dialed) => {
                    let copied = copy_bidirectional_with_sizes(&mut client, &mut dialed.stream, BUFFER, BUFFER).await;
                    println!("{} {copied:?}", dialed.transport);
                }
                Err(error) => println!("{}", chain(&error)),
            }
        });
    }
    println!("deleting");
    backend.delete(Removal::default()).await?;
    let mut pods = backend.pods();
    let gone = pods.wait_for(|pods| pods.pods.is_empty() && !pods.applied);
    println!("{:?}", tokio::time::timeout(Duration::from_secs(60), gone).await??.ended);
    Ok(())
}

/// Tells the story until a pod answers.
async fn first_answer(backend: &dyn Backend, begun: Instant) -> buildfleet::builder::PodName {
    let mut pods = backend.pods();
    let mut told = Vec::new();
    let mut last_failure = String::new();
    loop {
        let now = pods.borrow_and_update().clone();
        let lines = now.pods.iter().flat_map(|pod| &pod.story).chain(&now.notes);
        for line in lines {
            if !told.contains(line) {
                println!("{:>6} ms {}", begun.elapsed().as_millis(), line.text);
                told.push(line.clone());
            }
        }
        if let Some(pod) = now.pods.iter().find(|pod| pod.phase == PodPhase::Running) {
            match backend.dial(&pod.name).await {
                Ok(dialed) => {
                    println!("{:>6} ms answered by {}", begun.elapsed().as_millis(), dialed.transport);
                    return pod.name.clone();
                }
                Err(error) => {
                    let failure = chain(&error);
                    if failure != last_failure {
                        println!("{:>6} ms {failure}", begun.elapsed().as_millis());
                        last_failure = failure;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        } else {
            // Ends with the backend, which lives as long as this loop.
            let _ = pods.changed().await;
        }
    }
}
