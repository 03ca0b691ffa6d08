//! Flags and what `buildctl` gets; the real one is asked about the same rows in `driver/tests/e2e/jobs`.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    build: BuildArgs,
}

/// A row of the table: the flags, and the arguments or the errors.
fn told(line: &str) -> Result<Vec<String>, Vec<String>> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    let flags = Line::try_parse_from(std::iter::once("run").chain(words)).expect(line).build;
    let build_args = build_args(&flags.build_arg, |name| (name == "SET").then(|| "from here".to_owned()))?;
    arguments(&flags, &build_args, &[])
}

#[test]
fn flags_become_buildctl_s() {
    for (line, wanted) in [
        ("", &[][..]),
        ("-t r/a:1", &["--output=type=image,name=r/a:1"]),
        ("-t r/a:1 -t r/a:2 --push", &["--output=type=image,\"name=r/a:1,r/a:2\",push=true"]),
        ("-t r/a -o type=registry", &["--output=type=image,name=r/a,push=true"]),
        (
            "-o type=registry,name=r/b,oci-mediatypes=true",
            &["--output=type=image,name=r/b,push=true,oci-mediatypes=true"],
        ),
        ("-t r/a -o type=image,compression=zstd --push", &["--output=type=image,name=r/a,push=true,compression=zstd"]),
        ("-o type=cacheonly -t r/a", &[]),
        ("--target build --no-cache", &["--opt=target=build", "--no-cache"]),
        (
            "--platform linux/amd64,linux/arm64 --platform linux/s390x",
            &["--opt=platform=linux/amd64,linux/arm64,linux/s390x"],
        ),
        (
            "--build-arg A=1 --build-arg B= --build-arg SET --build-arg UNSET",
            &["--opt=build-arg:A=1", "--opt=build-arg:B=", "--opt=build-arg:SET=from here"],
        ),
        ("--build-arg A=b=c,d", &["--opt=build-arg:A=b=c,d"]),
        ("--label a=b --label c", &["--opt=label:a=b", "--opt=label:c="]),
        ("--opt attest:sbom= --opt k=v", &["--opt=attest:sbom=", "--opt=k=v"]),
        ("--cache-from r/a:c", &["--import-cache=type=registry,ref=r/a:c"]),
        (
            "--cache-from type=registry,ref=r/a:c --cache-to type=registry,ref=r/a:c,mode=max",
            &["--export-cache=type=registry,ref=r/a:c,mode=max", "--import-cache=type=registry,ref=r/a:c"],
        ),
        ("--cache-to type=inline", &["--export-cache=type=inline"]),
    ] {
        assert_eq!(
            told(line).as_deref(),
            Ok(wanted.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().as_slice()),
            "{line}"
        );
    }
}

#[test]
fn what_a_pod_cannot_keep_or_must_not_show_is_refused() {
    for (line, wanted) in [
        ("--push", "--push needs a name to push by: --tag NAME"),
        ("-o type=registry", "--output `type=registry`: it has no name to push by: --tag NAME"),
        ("-o type=image,push=true", "--output `type=image,push=true`: it has no name to push by: --tag NAME"),
        (
            "-o out",
            "--output `out`: the result would stay in the Job's pod, which goes: accepted are type=image, type=registry and type=cacheonly",
        ),
        ("-o type=local,dest=out", "--output `type=local,dest=out`: the result would stay in the Job's pod"),
        ("-o type=oci", "--output `type=oci`: the result would stay in the Job's pod"),
        ("-o type=docker,dest=x", "the result would stay in the Job's pod"),
        ("-o type=imgae", "--output `type=imgae`: `imgae` is no type of output: accepted are type=image"),
        (
            "-o type=image,push",
            "--output `type=image,push`: `push` is not of the form KEY=VALUE: accepted are type=image",
        ),
        ("-o type=image,push=yes", "`yes` is no value of push: accepted are true and false"),
        ("--cache-to type=registry,mode=max", "it has no ref, as in type=registry,ref=NAME"),
        ("-o name=r/a", "--output `name=r/a`: it has no type: accepted are type=image"),
        ("-o \"type=image", "--output `\"type=image`: the quoted field is not closed"),
        (
            "--cache-to type=local,dest=x",
            "--cache-to `type=local,dest=x`: it would stay in the Job's pod, which goes: accepted are a name, type=registry",
        ),
        ("--cache-from type=gha", "--cache-from `type=gha`: its tokens would stand in the Job's manifest"),
        (
            "--cache-from type=s3,bucket=b,secret_access_key=k",
            "`secret_access_key` would stand in the Job's manifest for others to read",
        ),
        ("--cache-from ref=r/a", "--cache-from `ref=r/a`: it has no type"),
        ("--cache-from type=registry,r/a", "`r/a` is not of the form KEY=VALUE"),
        ("--build-arg =x", "--build-arg `=x` has no name"),
        ("--label =x", "--label `=x` has no name"),
        ("--opt target", "--opt `target` is not of the form KEY=VALUE"),
    ] {
        let errors = told(line).expect_err(line);
        assert!(errors.len() == 1 && errors[0].contains(wanted), "{line}: {errors:?}");
    }
    assert_eq!(told("--push --opt x --label =").expect_err("three").len(), 3);
    assert_eq!(told("--build-arg = --build-arg A --build-arg =x").expect_err("two").len(), 2);
}

#[test]
fn inputs_are_where_the_pod_has_them() {
    let url = || "https://git.example/x.git#main".to_owned();
    for (inputs, wanted) in [
        (
            Inputs::Uploaded { context: String::new(), dockerfile: "sub".into(), filename: "Dockerfile.dev".into() },
            &[
                "--local=context=/workspace/context",
                "--local=dockerfile=/workspace/context/sub",
                "--opt=filename=Dockerfile.dev",
            ][..],
        ),
        (
            Inputs::Uploaded {
                context: "context".into(),
                dockerfile: "dockerfile".into(),
                filename: "Dockerfile".into(),
            },
            &["--local=context=/workspace/context/context", "--local=dockerfile=/workspace/context/dockerfile"],
        ),
        (Inputs::Remote { url: url(), filename: None }, &["--opt=context=https://git.example/x.git#main"]),
        (
            Inputs::Remote { url: url(), filename: Some("b/Dockerfile".into()) },
            &["--opt=context=https://git.example/x.git#main", "--opt=filename=b/Dockerfile"],
        ),
        (
            Inputs::RemoteWithDockerfile { url: url() },
            &[
                "--opt=context=https://git.example/x.git#main",
                "--local=dockerfile=/workspace/context",
                "--opt=dockerfilekey=dockerfile",
            ],
        ),
    ] {
        assert_eq!(inputs.arguments(), wanted, "{inputs:?}");
    }
}

#[test]
fn secrets_are_where_the_pod_has_them() {
    let secrets =
        [SecretFile { id: "npm".into(), file: "npm".into() }, SecretFile { id: "a,b".into(), file: "secret-1".into() }];
    assert_eq!(
        arguments(&Line::parse_from(["run"]).build, &[], &secrets).expect("no flags"),
        ["--secret=id=npm,src=/run/buildfleet/secrets/npm", "--secret=\"id=a,b\",src=/run/buildfleet/secrets/secret-1"]
    );
}

#[test]
fn registries_are_those_that_the_flags_name() {
    let line = "-t a.example/x:1 -o type=image,\"name=b.example/x,c.example/y\" --cache-from d.example/c --cache-to type=registry,ref=e.example/c,mode=max \
                --opt source=f.example/dockerfile:1 --opt context:base=docker-image://g.example/base --opt k=v";
    let flags = Line::parse_from(std::iter::once("run").chain(line.split(' ').filter(|word| !word.is_empty()))).build;
    let wanted = [
        "a.example/x:1",
        "b.example/x",
        "c.example/y",
        "d.example/c",
        "e.example/c",
        "f.example/dockerfile:1",
        "g.example/base",
    ];
    let found = references(&flags);
    assert!(wanted.iter().all(|name| found.iter().any(|found| found == name)), "{found:?}");
}
