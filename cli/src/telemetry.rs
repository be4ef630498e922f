//! The standard `OTEL_*` variables, as far as they say whether telemetry is sent and where to. The SDK reads the others.

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
    let for_signal_or_all = |name: &str| {
        let of_signal = variable(&format!("OTEL_EXPORTER_OTLP_{signal}_{name}"));
        of_signal.or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
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
    let endpoint = endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    let protocol = for_signal_or_all("PROTOCOL").unwrap_or_else(|| "grpc".to_owned());
    let problem = if protocol != "grpc" {
        "only the protocol grpc is supported: set OTEL_EXPORTER_OTLP_PROTOCOL=grpc and the port for it, mostly 4317"
    } else if endpoint.starts_with("https://") {
        "a collector is reached without TLS only: use one on this machine, with http://"
    } else {
        return Some(endpoint);
    };
    tracing::warn!(signal = signal.to_lowercase(), protocol, endpoint, problem, "telemetry is not sent");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the endpoints of traces and metrics.
    fn endpoints(variables: &[(&str, &str)]) -> [Option<String>; 2] {
        let found = config(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        });
        [found.traces_endpoint, found.metrics_endpoint]
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is what a list of endpoints has")]
    fn some(endpoint: &str) -> Option<String> {
        Some(endpoint.to_owned())
    }

    #[test]
    fn nothing_is_sent_unless_the_environment_says_so() {
        assert_eq!(endpoints(&[]), [None, None]);
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        assert_eq!(endpoints(&[all]), [some("http://c:4317"), some("http://c:4317")]);
        assert_eq!(endpoints(&[all, ("OTEL_SDK_DISABLED", "TRUE")]), [None, None]);
        assert_eq!(endpoints(&[all, ("OTEL_METRICS_EXPORTER", "none")]), [some("http://c:4317"), None]);
        assert_eq!(endpoints(&[("OTEL_TRACES_EXPORTER", "otlp")]), [some(DEFAULT_ENDPOINT), None]);
        assert_eq!(endpoints(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:1")]), [None, some("http://m:1")]);
    }

    #[test]
    fn what_cannot_be_sent_is_left_out() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        assert_eq!(endpoints(&[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]), [None, None]);
        let traces =
            [all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")];
        assert_eq!(endpoints(&traces), [some("http://c:4318"), None]);
        assert_eq!(endpoints(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4317")]), [None, None]);
    }
}
