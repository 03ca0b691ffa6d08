//! The API server, asked over one connection: a `kubectl` for each question took a seventh of all the tests' time.

use std::sync::OnceLock;

use futures::future::join_all;
use http::Request;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::clock::seconds;
use super::tools::cluster;

/// All that is wanted of lists.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// A connection that all tests of this process share.
pub(crate) struct Api {
    runtime: Runtime,
    client: Client,
}

pub(crate) fn api() -> &'static Api {
    static API: OnceLock<Api> = OnceLock::new();
    API.get_or_init(|| {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let client = runtime.block_on(client());
        Api { runtime, client }
    })
}

async fn client() -> Client {
    // A second call finds the provider installed, which is what it wants.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(&cluster().kubeconfig).expect("the cluster's kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a context with a user")).expect("a client")
}

impl Api {
    /// Nothing when there is no such object.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.ask(Request::get(path).body(Vec::new()).expect("a path"))
    }

    pub(crate) fn create(&self, path: &str, object: &Value) {
        let request = Request::post(path).header("content-type", "application/json");
        let made = self.ask(request.body(object.to_string().into_bytes()).expect("a path"));
        assert!(made.is_some(), "there is no {path}");
    }

    /// Nothing when there is no such object.
    pub(crate) fn delete(&self, path: &str) -> Option<Value> {
        self.ask(Request::delete(path).body(Vec::new()).expect("a path"))
    }

    /// The `metadata` of what each of the lists has.
    pub(crate) fn lists(&self, lists: &[String]) -> Vec<Vec<Value>> {
        self.runtime.block_on(join_all(lists.iter().map(|path| async move {
            let request = Request::get(path).header("accept", METADATA).body(Vec::new()).expect("a path");
            let mut found = self.answered(request).await.unwrap_or_else(|| panic!("there is no list {path}"));
            // An empty list has no items.
            let items = found["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            items.into_iter().map(|mut item| item["metadata"].take()).collect()
        })))
    }

    fn ask(&self, request: Request<Vec<u8>>) -> Option<Value> {
        self.runtime.block_on(self.answered(request))
    }

    async fn answered(&self, request: Request<Vec<u8>>) -> Option<Value> {
        let shown = format!("{} {}", request.method(), request.uri());
        let answer = tokio::time::timeout(seconds(30), self.client.request::<Value>(request)).await;
        match answer.unwrap_or_else(|_| panic!("{shown}: no answer of the API server")) {
            Ok(answer) => Some(answer),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{shown}: {error}"),
        }
    }
}
