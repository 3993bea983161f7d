use super::*;

fn is_loopback_origin(origin: &str) -> bool {
    Origin::parse(origin).is_some_and(|origin| origin.is_loopback())
}

fn is_loopback_host(host: &str) -> bool {
    Host::parse(host).is_some_and(|host| host.is_loopback())
}

#[test]
fn loopback_origins_and_hosts_are_accepted() {
    for origin in [
        "http://localhost:5173",
        "http://127.0.0.1:7860",
        "http://[::1]:80",
        "https://LOCALHOST",
        "http://pixart.localhost:7860",
        "http://localhost.:7860",
    ] {
        assert!(is_loopback_origin(origin), "{origin}");
    }
    for host in [
        "localhost",
        "LocalHost:7860",
        "localhost.",
        "localhost.:7860",
        "pixart.localhost",
        "A.B.localhost.:1",
        "127.0.0.1:7860",
        "127.0.0.2",
        "127.255.255.254:1",
        "127.1:7860",
        "2130706433",
        "127.0.0.1.",
        "[::1]",
        "[::1]:7860",
        "[0:0:0:0:0:0:0:1]:7860",
        "[::ffff:127.0.0.1]",
        "localhost:",
    ] {
        assert!(is_loopback_host(host), "{host}");
    }
}

#[test]
fn other_origins_and_hosts_are_not() {
    for origin in [
        "null",
        "",
        "https://example.org",
        "http://localhost.example.org",
        "http://127.0.0.1.example.org:7860",
        "http://127.0.0.1@example.org",
        "http://localhost:80@example.org",
        "http://localhost/",
        "http://localhost#",
        "file://localhost",
        "http://192.168.1.2",
        "http://localhost:+80",
        "http:// localhost",
    ] {
        assert!(!is_loopback_origin(origin), "{origin}");
    }
    for host in [
        "example.org:7860",
        "0.0.0.0",
        "localhost:port",
        "localhost:99999",
        "localhost:+80",
        "localhost..",
        ".localhost",
        "localhost.example",
        "notlocalhost",
        "127.0.0.1.example.org",
        "127.0.0.256",
        "127.0.0.0.1",
        "[::1",
        "[127.0.0.1]",
        "::2",
        "::1",
        "[::]",
        "",
        ".",
        "localhost, example.org",
    ] {
        assert!(!is_loopback_host(host), "{host}");
    }
}

#[test]
fn an_allowed_origin_is_normalized() {
    for (flag, origin) in [
        ("https://example.org", "https://example.org"),
        ("https://example.org/", "https://example.org"),
        ("HTTPS://Example.ORG:443/", "https://example.org"),
        ("http://example.org:80", "http://example.org"),
        ("http://example.org:8080", "http://example.org:8080"),
        ("https://example.org:80", "https://example.org:80"),
        ("http://[0:0::1]:5173/", "http://[::1]:5173"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ("null", "null"),
        ("*", "https://anything.example"),
    ] {
        let allowed = AllowedOrigin::from_flag(flag).unwrap_or_else(|fault| panic!("{flag}: {fault}"));
        assert!(allowed.allows(origin), "{flag} {origin}");
        if let AllowedOrigin::One(one) = &allowed {
            assert_eq!(one.to_string(), origin);
            assert!(!allowed.allows("https://example.com") && !allowed.allows("null"), "{flag}");
        }
    }
    let https = AllowedOrigin::from_flag("https://example.org").expect("an origin");
    assert!(!https.allows("http://example.org") && !https.allows("https://sub.example.org"));
    assert!(!https.allows("https://example.org:8443"));
}

#[test]
fn a_value_that_is_no_origin_is_refused_with_what_to_write() {
    for (flag, remedy) in [
        ("https://example.org/app", "leave out the path: --allow-origin https://example.org"),
        ("https://example.org//", "leave out the path: --allow-origin https://example.org"),
        ("https://example.org?a=b", "leave out the path: --allow-origin https://example.org"),
        ("https://example.org:8443/#top", "leave out the path: --allow-origin https://example.org:8443"),
        ("example.org", "write it with its scheme: --allow-origin https://example.org"),
        ("example.org:8080/", "write it with its scheme: --allow-origin https://example.org:8080"),
        ("https://*.example.org", "repeat the flag for each origin, as `https://example.org`"),
        ("https://bücher.example", "write the host as browsers send it, in letters of ASCII: `https://xn--…`"),
        ("https://user@example.org", "write a scheme and a host, as `https://example.org`"),
        ("https://", "write a scheme and a host, as `https://example.org`"),
        ("https://example.org:port", "write a scheme and a host, as `https://example.org`"),
        ("", "write a scheme and a host, as `https://example.org`"),
        ("a b", "write a scheme and a host, as `https://example.org`"),
    ] {
        let fault = AllowedOrigin::from_flag(flag).expect_err(flag);
        assert_eq!((fault.what, fault.remedy.as_str()), (format!("--allow-origin is `{flag}`"), remedy));
        // A remedy that names a value names one that is accepted.
        if let Some((_, value)) = remedy.split_once("--allow-origin ") {
            AllowedOrigin::from_flag(value).expect(value);
        }
    }
}

#[test]
fn an_allowed_host_is_a_host_with_or_without_a_port() {
    let covers = |flag: &str, host: &str| Host::from_flag(flag).expect(flag).covers(&Host::parse(host).expect(host));
    assert!(covers("host.docker.internal", "host.docker.internal:7860"));
    assert!(covers("HOST.docker.internal.", "host.docker.INTERNAL"));
    assert!(covers("nas:80", "nas") && covers("nas:7860", "nas:7860") && !covers("nas:7860", "nas:7861"));
    assert!(covers("[fd00::1]", "[fd00:0::1]:7860") && !covers("nas", "nas.example"));
    for (flag, remedy) in [
        ("http://nas:7860/", "write the host alone: --allow-host nas:7860"),
        ("nas/app", "write the host alone: --allow-host nas"),
        ("*", "name each host; with --token-file every host is allowed"),
        ("*.example.org", "write a host with or without its port, as `host.docker.internal`"),
        ("", "write a host with or without its port, as `host.docker.internal`"),
    ] {
        let fault = Host::from_flag(flag).expect_err(flag);
        assert_eq!((fault.what, fault.remedy.as_str()), (format!("--allow-host is `{flag}`"), remedy));
    }
}
