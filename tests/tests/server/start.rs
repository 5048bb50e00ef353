//! What keeps a server from starting, and what it says then.

use tidewatch_server::{Config, DockerEndpoint, Error, ErrorClass, Server, serve};

use crate::rig::{TestServer, config};

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused_unless_insecure_is_said() {
    let open = Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..config()
    };
    let error = Server::bind(open.clone()).await.unwrap_err();
    assert!(matches!(error, Error::NotLoopback { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Usage);
    let text = error.to_string();
    assert!(
        text.contains("0.0.0.0:0") && text.contains("--insecure"),
        "{text}"
    );

    let insecure = Config {
        insecure: true,
        ..open
    };
    Server::bind(insecure).await.unwrap();
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_by_name_before_anything_is_opened() {
    let endpoint = |name: Option<&str>, url: &str| DockerEndpoint {
        name: name.map(Into::into),
        url: url.into(),
    };
    let docker = |docker: Vec<DockerEndpoint>| Config {
        docker,
        no_docker: false,
        ..config()
    };
    let socket = "unix:///run/docker.sock";
    let cases = [
        (
            docker(vec![endpoint(None, "docker.sock")]),
            "invalid docker",
            "unix://PATH",
        ),
        (
            docker(vec![endpoint(Some("a b"), socket)]),
            "invalid docker",
            "a b",
        ),
        (
            docker(vec![endpoint(None, socket), endpoint(None, "tcp://127.0.0.1:1")]),
            "invalid docker",
            "a name of its own",
        ),
        (
            docker(vec![
                endpoint(Some("a"), socket),
                endpoint(Some("a"), "tcp://127.0.0.1:1"),
            ]),
            "invalid docker",
            "two engines are called \"a\"",
        ),
        (
            Config {
                no_docker: true,
                ..docker(vec![endpoint(None, socket)])
            },
            "invalid docker",
            "--no-docker",
        ),
        (
            Config {
                host_name: Some("-x".into()),
                ..config()
            },
            "invalid host-name",
            "-x",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (config, setting, hint) in cases {
        let config = Config {
            data_dir: Some(data.clone()),
            ..config
        };
        let error = Server::bind(config).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(setting) && text.contains(hint), "{text}");
        assert_eq!(error.class(), ErrorClass::Usage);
        assert!(!data.exists());
    }
}

#[tokio::test]
async fn a_used_port_is_told_with_what_to_do() {
    let first = TestServer::start().await;
    let config = Config {
        listen: first.addr,
        ..config()
    };
    let error = serve(config, std::future::pending()).await.unwrap_err();
    assert!(
        matches!(error, Error::PortInUse { listen } if listen == first.addr),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Failed);
    assert!(error.to_string().contains("--listen"), "{error}");
}
