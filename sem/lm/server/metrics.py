"""What Prometheus reads at /metrics; every label has few values, none that a client can make."""

from typing import Any

LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one service, in a registry of their own.

    `namespace` begins every name, as sem_optimizer; `items` are what it answers, as prompts.
    """

    def __init__(self, namespace: str, items: str) -> None:
        import prometheus_client as prometheus

        self._prometheus = prometheus
        self.registry = prometheus.CollectorRegistry()
        options = {"registry": self.registry, "namespace": namespace}
        self.namespace = namespace
        noun = items.capitalize()
        counter, histogram = prometheus.Counter, prometheus.Histogram
        gauge = prometheus.Gauge
        self.requests = counter("requests", "Answers", ["route", "status"], **options)
        self.refused = counter("refused", "Answers other than 200", ["reason"], **options)
        self.tokens = counter("tokens", "Tokens", ["side"], **options)
        self.seconds = histogram(
            "request_seconds", "From request to answer", ["route"], buckets=LATENCY_S, **options
        )
        self.batch = histogram(
            f"batch_{items}", f"{noun} answered together", buckets=BATCH, **options
        )
        self.waited = histogram("waited_seconds", "In line", buckets=LATENCY_S, **options)
        self.passed_over = counter("passed_over", "Left or late in line", **options)
        self.accepted = counter("accepted", f"{noun} taken into the line", **options)
        self.answered = counter("answered", f"{noun} answered out of it", **options)
        self.waiting = gauge("waiting", f"{noun} in line", **options)
        self.loaded = gauge("model_loaded", "Whether the model is loaded", **options)

    def add_counter(self, name: str, description: str, labels: tuple[str, ...] = ()) -> Any:
        """Return one counter more, of what this service alone counts."""
        return self._prometheus.Counter(
            name, description, labels, namespace=self.namespace, registry=self.registry
        )

    def answer(self, route: str, status: int, seconds: float, reason: str | None) -> None:
        """Count one answered request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if reason:
            self.refused.labels(reason).inc()

    def total(self, name: str) -> int:
        """Return how often the counter `name` was raised."""
        return int(self.registry.get_sample_value(f"{self.namespace}_{name}_total") or 0)

    def text(self) -> tuple[bytes, str]:
        """Return all of it in Prometheus' format, and its content type."""
        body: Any = self._prometheus.generate_latest(self.registry)
        return body, self._prometheus.CONTENT_TYPE_LATEST
