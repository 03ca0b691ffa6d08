//! scratch
use buildfleet::backend::*;
use buildfleet::builder::*;
use buildfleet::fleet::*;
use std::sync::Arc;
use tokio::sync::watch;
#[derive(Debug)]
struct One(watch::Sender<Pods>, String);
#[async_trait::async_trait]
impl Backend for One {
    async fn apply(&self, _: u32) -> Result<(), ApplyError> {
        let tx = self.0.clone();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_secs(
                std::env::var("COLD").ok().and_then(|x| x.parse().ok()).unwrap_or(0),
            ))
            .await;
            tx.send_modify(|p| {
                p.applied = true;
                p.pods = vec![Pod {
                    name: "a".parse().unwrap(),
                    phase: PodPhase::Running,
                    incarnation: 1,
                    host: None,
                    started: None,
                    story: vec![],
                    last_end: None,
                }];
            });
        });
        Ok(())
    }
    fn pods(&self) -> watch::Receiver<Pods> {
        self.0.subscribe()
    }
    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        let s = tokio::net::UnixStream::connect(&self.1).await.map_err(|e| DialError::Failed {
            pod: pod.clone(),
            transport: Transport::Unix,
            source: e.into(),
        })?;
        Ok(Dialed { stream: Box::new(s), transport: Transport::Unix })
    }
    async fn logs(&self, pod: &PodName, _: LogsWanted) -> Result<LogStream, LogsError> {
        Err(LogsError::Gone(pod.clone()))
    }
    async fn delete(&self) -> Result<(), DeleteError> {
        Ok(())
    }
}
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(std::env::var("LOG").unwrap_or("debug,h2=info".into()))
        .with_writer(std::io::stderr)
        .init();
    let a: Vec<String> = std::env::args().collect();
    let _ = std::fs::remove_file(&a[1]);
    let l = tokio::net::UnixListener::bind(&a[1]).unwrap();
    let s = buildfleet::shutdown::Shutdown::new();
    let pods = Pods { known: true, ..Default::default() };
    let f = NodeFleet::start(
        FleetConfig {
            node: "kube0".parse().unwrap(),
            replicas: 1,
            loadbalance: Default::default(),
            timeout: std::time::Duration::from_secs(120),
            platforms: vec![],
            remembered: Remembered { stopped: true, workers: None, ping: None },
        },
        Arc::new(One(watch::Sender::new(pods), a[2].clone())),
        s.clone(),
    );
    let mut w = f.watch();
    tokio::spawn(async move {
        loop {
            if let Some(p) = w.borrow().remembered.ping.clone() {
                std::fs::write("/tmp/h/ping.raw", &p).unwrap();
            }
            if w.changed().await.is_err() {
                break;
            }
        }
    });
    loop {
        let (c, _) = l.accept().await.unwrap();
        s.spawn(buildfleet::proxy::serve(c, f.clone(), s.clone()));
    }
}
