//! The standard `OTEL_*` variables, as far as they say whether telemetry is sent and where to. The SDK reads the others.

use http::Uri;
use procpool_server::TelemetryConfig;

/// Where a collector listens unless somebody says otherwise.
const DEFAULT_ENDPOINT: &str = "http://localhost:4317";

/// Works out the settings from the environment's variables. Telemetry that cannot work is left out with a warning: it is
/// no reason not to serve.
pub(crate) fn config(variable: impl Fn(&str) -> Option<String>) -> TelemetryConfig {
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return TelemetryConfig::default();
    }
    TelemetryConfig { traces_endpoint: endpoint("TRACES", &variable), metrics_endpoint: endpoint("METRICS", &variable) }
}

/// Returns where a signal is sent to.
fn endpoint(signal: &str, variable: &impl Fn(&str) -> Option<String>) -> Option<String> {
    // What is said of one signal wins over what is said of all; with it comes the variable that says so.
    let for_signal_or_all = |name: &str| {
        let names = [format!("OTEL_EXPORTER_OTLP_{signal}_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
        names.into_iter().find_map(|name| Some((variable(&name)?, name)))
    };
    let endpoint = for_signal_or_all("ENDPOINT");
    // A server without a collector must not call one: without any word there is none.
    let is_wanted = match variable(&format!("OTEL_{signal}_EXPORTER")).as_deref() {
        Some(exporters) => exporters.split(',').any(|exporter| exporter.trim() == "otlp"),
        None => endpoint.is_some(),
    };
    if !is_wanted {
        return None;
    }
    let signal = signal.to_lowercase();
    if let Some((protocol, variable)) = for_signal_or_all("PROTOCOL").filter(|(protocol, _)| protocol != "grpc") {
        let problem = "only the protocol grpc is supported: set OTEL_EXPORTER_OTLP_PROTOCOL=grpc and the port for it, \
                       mostly 4317";
        tracing::warn!(signal, variable, value = protocol, problem, "telemetry is not sent");
        return None;
    }
    if let Some((compression, variable)) = for_signal_or_all("COMPRESSION")
        && !["gzip", "none"].iter().any(|known| compression.eq_ignore_ascii_case(known))
    {
        let problem = "only gzip and none are supported";
        tracing::warn!(signal, variable, value = compression, problem, "telemetry is sent without compression");
    }
    let Some((endpoint, variable)) = endpoint else { return Some(DEFAULT_ENDPOINT.to_owned()) };
    let is_insecure = for_signal_or_all("INSECURE").is_some_and(|(value, _)| value.eq_ignore_ascii_case("true"));
    match without_tls(&endpoint, is_insecure) {
        Ok(endpoint) => Some(endpoint),
        Err(problem) => {
            tracing::warn!(signal, variable, value = endpoint, problem, "telemetry is not sent");
            None
        }
    }
}

/// Returns the URL of an endpoint that is reached without TLS, which is all that this program can.
///
/// # Errors
///
/// With what is wrong with it.
fn without_tls(endpoint: &str, is_insecure: bool) -> Result<String, &'static str> {
    // The specification: without a scheme it is TLS, unless the environment says "insecure".
    let has_scheme = endpoint.contains("://");
    let url = if has_scheme || !is_insecure { endpoint.to_owned() } else { format!("http://{endpoint}") };
    match url.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty()) => Ok(url),
        Ok(uri) if !has_scheme || uri.scheme_str() == Some("https") => {
            Err("a collector is reached without TLS only: use one on this machine, as http://HOST:PORT")
        }
        _ => Err("an endpoint has the form http://HOST:PORT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the endpoints of traces and metrics; empty for none.
    fn endpoints(variables: &[(&str, &str)]) -> [String; 2] {
        let found = config(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        });
        [found.traces_endpoint, found.metrics_endpoint].map(Option::unwrap_or_default)
    }

    #[test]
    fn nothing_is_sent_unless_the_environment_says_so() {
        assert_eq!(endpoints(&[]), ["", ""]);
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        assert_eq!(endpoints(&[all]), ["http://c:4317", "http://c:4317"]);
        assert_eq!(endpoints(&[all, ("OTEL_SDK_DISABLED", "TRUE")]), ["", ""]);
        assert_eq!(endpoints(&[all, ("OTEL_METRICS_EXPORTER", "none")]), ["http://c:4317", ""]);
        assert_eq!(endpoints(&[("OTEL_TRACES_EXPORTER", "otlp")]), [DEFAULT_ENDPOINT, ""]);
        assert_eq!(endpoints(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:1")]), ["", "http://m:1"]);
    }

    #[test]
    fn what_cannot_be_sent_is_left_out() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        assert_eq!(endpoints(&[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]), ["", ""]);
        let traces =
            [all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")];
        assert_eq!(endpoints(&traces), ["http://c:4318", ""]);
    }

    #[test]
    fn an_endpoint_that_cannot_be_reached_without_tls_is_left_out() {
        let wrong = [
            "https://c:4317",
            "c:4317",
            "127.0.0.1:4317",
            "not_a_url",
            "http://",
            "http://:4317",
            "ftp://c",
            "://",
            "a b",
        ];
        for endpoint in wrong {
            assert_eq!(endpoints(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]), ["", ""], "{endpoint}");
        }
        // One signal's mistake is not the other's.
        let of_one = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "c:1")];
        assert_eq!(endpoints(&of_one), ["", "http://c:4317"]);
        let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "True");
        let plain = [("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4317"), insecure];
        assert_eq!(endpoints(&plain), ["http://127.0.0.1:4317", "http://127.0.0.1:4317"]);
        assert_eq!(endpoints(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4317"), insecure]), ["", ""]);
    }
}
