"""Secrets in every known form, put together here so that no scanner takes them for real."""

import random

HEX = "0123456789abcdef"
MIX = "abcdefghijkLMNOPQRSTUVWXYZ0123456789"


def made(count: int, letters: str = MIX) -> str:
    return "".join(random.Random(count).choices(letters, k=count))


PLANTED = {
    "aws": "AKIA" + made(16, "ABCDEFGHIJ234567"),
    "aws temporary": "ASIA" + made(16, "ABCDEFGHIJ234567"),
    "github": "ghp_" + made(36),
    "github fine": "github_" + "pat_" + made(60),
    "gitlab": "glpat-" + made(20),
    "slack": "xoxb-" + made(12, "0123456789") + "-" + made(24),
    "slack hook": "https://hooks.slack.com/services/T" + made(8) + "/B" + made(8) + "/" + made(24),
    "openai": "sk-" + made(48),
    "openai project": "sk-proj-" + made(60),
    "anthropic": "sk-ant-api03-" + made(80),
    "stripe": "sk_live_" + made(24),
    "google": "AIza" + made(35),
    "google oauth": "ya29." + made(60),
    "hugging face": "hf_" + made(34, "abcdefghijkLMNOPQ"),
    "npm": "npm_" + made(36),
    "pypi": "pypi-" + made(80),
    "sendgrid": "SG." + made(22) + "." + made(43),
    "twilio": "SK" + made(32, HEX),
    "telegram": "123456789:AA" + made(33),
    "discord": "https://discord.com/api/webhooks/123456789012345678/" + made(68),
    "databricks": "dapi" + made(32, HEX),
    "digitalocean": "dop_v1_" + made(64, HEX),
    "shopify": "shpat_" + made(32, HEX),
    "azure": "AccountName=a;AccountKey=" + made(86) + "==",
    "jwt": "eyJ" + made(30) + ".eyJ" + made(60) + "." + made(43),
    "bearer": "Authorization: Bearer " + made(40),
    "pem": "-----BEGIN RSA PRIVATE KEY-----\n" + made(64) + "\n-----END RSA PRIVATE KEY-----",
    "openssh": "-----BEGIN OPENSSH PRIVATE KEY-----\n" + made(70) + "\n" + made(64),
    "pgp": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + made(64) + "\n"
    "-----END PGP PRIVATE KEY BLOCK-----",
    "address": "postgres://svc:" + made(14) + "@db.internal:5432/app",
    "password": "password = 'T7#kq" + made(8) + "'",
    "yaml": "api_key: " + made(32),
    "json": '{"client_secret": "' + made(30) + '"}',
    "german": "Passwort: Zug!" + made(7) + "9",
}
