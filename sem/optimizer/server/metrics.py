"""What Prometheus reads at /metrics; every label has few values, none that a client can make."""

from typing import Any

LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        import prometheus_client as prometheus

        self._prometheus = prometheus
        self.registry = prometheus.CollectorRegistry()
        options = {"registry": self.registry, "namespace": "sem_optimizer"}
        counter, histogram = prometheus.Counter, prometheus.Histogram
        gauge = prometheus.Gauge
        self.requests = counter("requests", "Answers", ["route", "status"], **options)
        self.refused = counter("refused", "Answers other than 200", ["reason"], **options)
        self.tokens = counter("tokens", "Tokens", ["side"], **options)
        self.seconds = histogram(
            "request_seconds", "From request to answer", ["route"], buckets=LATENCY_S, **options
        )
        self.batch = histogram(
            "batch_prompts", "Prompts decoded together", buckets=BATCH, **options
        )
        self.waited = histogram("waited_seconds", "In line", buckets=LATENCY_S, **options)
        self.passed_over = counter("passed_over", "Left or late in line", **options)
        self.accepted = counter("accepted", "Prompts taken into the line", **options)
        self.answered = counter("answered", "Prompts answered out of it", **options)
        self.waiting = gauge("waiting", "Prompts in line", **options)
        self.loaded = gauge("model_loaded", "Whether an optimizer is loaded", **options)

    def observe(self, name: str, value: float) -> None:
        """What the line tells: batch, waited, passed_over."""
        if name == "passed_over":
            self.passed_over.inc(value)
        else:
            getattr(self, name).observe(value)

    def answer(self, route: str, status: int, seconds: float, reason: str | None) -> None:
        """Count one answered request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if reason:
            self.refused.labels(reason).inc()

    def text(self) -> tuple[bytes, str]:
        """Return all of it in Prometheus' format, and its content type."""
        body: Any = self._prometheus.generate_latest(self.registry)
        return body, self._prometheus.CONTENT_TYPE_LATEST
