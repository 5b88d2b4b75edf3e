"""Secrets that people put into command lines, in the spelling of each engine and tool: none is shown, and the rest is."""

from __future__ import annotations

import json
import random
import string

import pytest

from bedplate.host.secrets.secret_names import HIDDEN
from bedplate.host.secrets.secrets import WORD_MOST, hide_secrets, hide_secrets_in

S = "plantedSecret"  # a word as any other: only what stands before it tells
R = "v2ZqT0b9LrXk81JmPw4cD7s"  # letters and digits that no word has
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

PLANTED: dict[str, tuple[str, ...]] = {
    # llama.cpp (llama-server --help)
    "llama.cpp --api-key": ("--api-key", S),
    "llama.cpp --api-key=": (f"--api-key={S}",),
    "llama.cpp several keys": ("--api-key", f"{S},{S}2"),
    "llama.cpp --hf-token": ("--hf-token", S),
    "llama.cpp -hft": ("-hft", S),
    "llama.cpp LLAMA_API_KEY": (f"LLAMA_API_KEY={S}",),
    # vLLM
    "vllm several keys": ("--api-key", S, f"{S}2", "--port", "1"),
    "vllm --hf-token=": (f"--hf-token={S}",),
    "vllm loader's configuration": (
        "--model-loader-extra-config",
        json.dumps({"aws_secret_access_key": S, "concurrency": 4}),
    ),
    "vllm dotted": (f"--model-loader-extra-config.aws_secret_access_key={S}",),
    "vllm dotted apart": ("--model-loader-extra-config.aws_secret_access_key", S),
    "vllm traces": ("--otlp-traces-endpoint", f"https://collector:{S}@otel.example:4317"),
    "vllm kv transfer": ("--kv-transfer-config", json.dumps({"kv_connector_extra_config": {"auth": {"password": S}}})),
    # SGLang
    "sglang --admin-api-key": ("--admin-api-key", S),
    "sglang --api-key": (f"--api-key={S}",),
    "sglang storage": ("--hicache-storage-backend-extra-config", json.dumps({"access_key": S})),
    # TensorRT-LLM, Triton
    "triton restricted api": (f"--http-restricted-api=model-repository,health:x-api-key={S}",),
    "triton restricted protocol": (f"--grpc-restricted-protocol=inference:admin-key={S}",),
    "trtllm NGC_API_KEY": ("env", f"NGC_API_KEY={S}", "trtllm-serve"),
    # Ollama
    "ollama OLLAMA_API_KEY": (f"OLLAMA_API_KEY={S}",),
    "ollama registry": (f"OLLAMA_HOST=https://me:{S}@10.0.0.1:11434",),
    # TGI
    "tgi --ngrok-authtoken": ("--ngrok-authtoken", S),
    "tgi HUGGING_FACE_HUB_TOKEN": (f"HUGGING_FACE_HUB_TOKEN={S}",),
    "tgi --api-key": ("--api-key", S),
    # LocalAI, koboldcpp, LMDeploy, aphrodite
    "localai --p2ptoken": ("--p2ptoken", S),
    "localai --api-keys": ("--api-keys", S),
    "kobold --password": ("--password", S),
    "kobold --adminpassword": ("--adminpassword", S),
    "aphrodite --admin-key": ("--admin-key", S),
    # argparse takes the beginning of an option for the whole
    "vllm --api-k": ("--api-k", S, "--port", "1"),
    "vllm --api-ke=": (f"--api-ke={S}",),
    "vllm --api_k": ("--api_k", S),
    "vllm --hf-t": ("--hf-t", S),
    "vllm --hf-tok=": (f"--hf-tok={S}",),
    "sglang --api": ("--api", S),
    "sglang --admin": ("--admin", S),
    "sglang --admin-api-k": ("--admin-api-k", S),
    "sglang --ssl-keyfile-p": ("--ssl-keyfile-p", S),
    "sglang --ssl-keyfile-passw=": (f"--ssl-keyfile-passw={S}",),
    "kobold --adminpassw": ("--adminpassw", S),
    "tgi --ngrok-autht": ("--ngrok-autht", S),
    "localai --p2pt": ("--p2pt", S),
    "--client-sec": ("--client-sec", S),
    "--passphr": ("--passphr", f"a {S}"),
    "an abbreviation in a script": ("sh", "-c", f"vllm serve x --api-k {S} --port 1"),
    "an abbreviation in a variable": (f"VLLM_ARGS=--hf-to={S} --port 1",),
    # other notations of an option and its value
    "a colon": (f"--api-key:{S}",),
    "a slash": ("/api-key", S),
    "a slash and a colon": (f"/api-key:{S}",),
    "a plus": ("+password", S),
    "a property": (f"-Dapi.key={S}",),
    "an equals sign apart": ("--hf-token", "=", S),
    "a colon apart": ("--hf-token", ":", S),
    "many blanks": (f"--api-key{' ' * 60}{S}",),
    "many blanks in a script": ("sh", "-c", f"vllm serve x --api-key{' ' * 60}{S}"),
    "many blanks before a colon": ("--config", f"api_key{' ' * 60}: {S}"),
    "many blanks of JSON": ("--config", '{"api_key"' + " " * 60 + f': "{S}"}}'),
    "a value with a dash": ("--api-key", f"-{S}"),
    "a value with two dashes": ("--api-key", f"--9{S}"),
    "a value with a dash in a script": ("sh", "-c", f"vllm serve x --api-key -{S} --port 1"),
    "an option behind a switch": ("--auth", "-hft", S),
    "a quoted option in a script": ("sh", "-c", f'vllm serve x "--api-key" "{S}" --port 1'),
    "a script of two lines": ("sh", "-c", f"vllm serve x --api-key \\\n    {S} --port 1"),
    "a script in a script": ("sh", "-c", f'sh -c "vllm serve x --api-key \\"{S}\\""'),
    "a quote of bash": ("sh", "-c", f"vllm serve x --hf-token $'{S}'"),
    "two quotes in a row": ("sh", "-c", f"vllm serve x --api-key \"a\"'b {S}' --port 1"),
    "+=": ("sh", "-c", f"HF_TOKEN+={S} vllm serve x"),
    ":=": ("--config", f"api_key := {S}"),
    "->": ("--config", f"api_key -> {S}"),
    "a name in brackets": ("--set", f"a.b[api_key]={S}"),
    "a name in quotes and brackets": ("--set", f"a['api_key']={S}"),
    "a list of arguments in JSON": ("--config", json.dumps({"args": ["--api-key", S]})),
    "... that is JSON in JSON": ("--config", json.dumps(json.dumps({"args": ["--api-key", S]}))),
    "a list of arguments in YAML": ("--config", f"args: [--api-key, {S}]"),
    "... of lines": ("--config", f"args:\n- --api-key\n- {S}\n"),
    "... of quoted lines": ("--config", f"args:\n  - '--api-key'\n  - '{S}'\n"),
    "a list with a bracket in it": ("--config", json.dumps({"api_keys": ["a]b", S]})),
    "a list of headers": ("--config", json.dumps({"headers": [["Authorization", S]]})),
    "headers of any name": ("--extra-headers", json.dumps({"x-team": S})),
    "headers of OpenTelemetry": (f"OTEL_EXPORTER_OTLP_HEADERS=x-team={S}",),
    "a name and a value": ("--env", json.dumps([{"name": "HF_TOKEN", "value": S}])),
    "... of YAML": ("--env", f"- name: HF_TOKEN\n  value: {S}\n"),
    "... of XML": ("--config", f'<add key="ApiKey" value="{S}"/>'),
    "an element": ("--config", f"<api_key>{S}</api_key>"),
    "a tuple": ("--config", f"[('api_key', '{S}')]"),
    "a tuple behind a name": ("--config", f"{{'Authorization': ('Bearer', '{S}')}}"),
    "a name with a blank": ("--config", json.dumps({"API Key": S})),
    "a name with a number": ("--config", f"token2={S}"),
    "tokens": ("--config", json.dumps({"tokens": [S]})),
    "--api-tokens": ("--api-tokens", S),
    "triton restricted api of any name": (f"--http-restricted-api=health:x={S}",),
    "a header of its own argument": ("--header", "X-Api-Key", S),
    "a header, split, of any scheme": ("-H", "Authorization:", "Custom", S),
    "dashes of a word processor": ("\u2014api-key", S),
    "a wide equals sign": (f"--api-key\uff1d{S}",),
    "a blank that does not break": (f"--api-key\u00a0{S}",),
    "escaped in a URL": (f"https://h/p?api%5Fkey={S}",),
    "escaped twice": (f"https://h/r?u=https%253A%252F%252Fh%253Ftoken%253D{S}",),
    "an escaped account": (f"https%3A%2F%2Fu%3A{S}%40h",),
    "escaped in JSON": ("--config", '{"api\\u005fkey": "' + S + '"}'),
    "escaped in a unit": (f"VLLM_ARGS=--api-key\\x20{S}",),
    "no scheme but slashes": (f"//me:{S}@filer/share",),
    "--session-id": ("--session-id", S),
    "?sessionid=": (f"https://h/p?sessionid={S}",),
    "?code=": (f"https://h/p?code={S}",),
    "AWSAccessKeyId": (f"https://h/p?AWSAccessKeyId={S}&Expires=1",),
    "a bot's URL": (f"https://api.telegram.org/bot98765:{S}/send",),
    "a webhook": (f"https://x.webhook.office.com/webhookb2/{S}",),
    "--authentication": ("--authentication", S),
    "--passwort": ("--passwort", S),
    "GITHUB_PAT": (f"GITHUB_PAT={S}",),
    "setenv": ("csh", "-c", f"setenv HF_TOKEN {S}; vllm serve x"),
    "set -x": ("fish", "-c", f"set -x HF_TOKEN {S}; vllm serve x"),
    "a header of nginx": ("nginx", "-g", f"proxy_set_header X-Api-Key {S};"),
    "a variable of nginx": ("nginx", "-g", f'set $token "{S}";'),
    "echo into a program": ("sh", "-c", f"echo {S} | docker login --password-stdin -u me x"),
    "printf into a program": ("sh", "-c", f"printf '%s' '{S}' | docker login --password-stdin"),
    "echo into a file": ("sh", "-c", f"echo {S} > /run/secrets/hf_token; vllm serve x"),
    "a here string": ("sh", "-c", f"docker login --password-stdin <<< {S}"),
    "wandb login": ("sh", "-c", f"wandb login {S}; vllm serve x"),
    "wg private-key": ("wg", "set", "wg0", "private-key", S),
    "curl -su": ("curl", "-su", f"me:{S}"),
    "curl -su in a script": ("sh", "-c", f"curl -sSLu me:{S} http://h"),
    "curl --cert": ("curl", "--cert", f"a.pem:{S}"),
    "httpie -a": ("http", "-a", f"me:{S}"),
    "wandb login --relogin": ("wandb", "login", "--relogin", S),
    "vault login": ("vault", "login", S),
    "htpasswd": ("htpasswd", "-bB", "/etc/users", "me", S),
    "htpasswd in a script": ("sh", "-c", f"htpasswd -nb me {S}; echo done"),
    "az login": ("az", "login", "-u", "me", "-p", S),
    "a private key of SSH2": (f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{S}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",),
    "a private key of PuTTY": (f"PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 8\n{S}",),
    # in the shell that a process was started by
    "a quoted account in a script": ("sh", "-c", f'wget --user="anna:{S}" http://mirror.example/model'),
    "a quoted account of an export": ("sh", "-c", f"export PROXY_USER='anna:{S}'; exec serve"),
    "a quoted account behind a comma": (f"a=1,user='anna:{S}'",),
    "the name alone is quoted": ("sh", "-c", f'curl -H "X-Api-Key: "{S} http://mirror.example'),
    "the name alone is quoted, with =": ("sh", "-c", f'run -e "HF_TOKEN="{S}'),
    # what any of them may be given
    "--config as JSON": ("--config", json.dumps({"api_key": S})),
    "JSON with blanks": ("--config", '{ "api_key" : "' + S + '" }'),
    "JSON in JSON": ("--config", json.dumps({"inner": json.dumps({"api_key": S})})),
    "JSON with a list": ("--config", json.dumps({"api_keys": [S, S + "2"]})),
    "JSON with a quote in it": ("--config", json.dumps({"password": f'a"{S}'})),
    "Python's repr": ("--config", f"{{'token': '{S}'}}"),
    "YAML": ("--config", f"{{api_key: {S}}}"),
    "TOML": ("--set", f'api_key = "{S}"'),
    "headers as JSON": ("--default-headers", json.dumps({"Authorization": f"Bearer {S}", "Cookie": f"a=1; s={S}"})),
    "--user": ("--user", f"admin:{S}"),
    "-u": ("-u", f"admin:{S}"),
    "--basic-auth": ("--basic-auth", f"admin:{S}"),
    "?sig=": (f"https://h.blob.core.windows.net/x?sv=1&sig={S}",),
    "presigned S3": (f"https://b.s3.amazonaws.com/k?X-Amz-Credential={S}&X-Amz-Signature={S}&X-Amz-Expires=60",),
    "presigned GCS": (f"https://storage.googleapis.com/b/k?X-Goog-Signature={S}",),
    "?key=": (f"https://host/v1?key={S}&model=x",),
    "--auth": ("--auth", S),
    "--bearer": ("--bearer", S),
    "--jwt": ("--jwt", S),
    "--cookie": ("--cookie", f"session={S}"),
    "a cookie's header": ("-H", f"Cookie: a=b; session={S}"),
    "a header": ("-H", f"X-Api-Key: {S}"),
    "a bearer's header": ("-H", f"Authorization: Bearer {S}"),
    "a bearer's header, split": ("Authorization:", "Bearer", S),
    "basic authorization": ("--header=Authorization: Basic " + S,),
    "a URL's password with an at sign": (f"https://me:p@{S}@hub/x",),
    "redis": (f"redis://:{S}@cache:6379/0",),
    "no scheme": (f"me:{S}@registry:5000",),
    "azure": (f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={S};EndpointSuffix=core.windows.net",),
    "a DSN": ("--sentry-dsn", f"https://{S}@sentry.example/1"),
    "a password of digits": ("--password", "12345"),
    "a password that holds a comma": (f"PASSWORD={S},{S}",),
    "a quoted variable": ("sh", "-c", f'PASSWORD="{S} {S}" vllm serve x'),
    "a title over the arguments": (f"python3 -m vllm serve --api-key {S} --port 80",),
    # what stands behind a separator is of the value too
    "a password with an ampersand": (f"--password=a&{S}",),
    "a password with a semicolon": (f"--password=a;{S}",),
    "a password with a quote": (f'--password=a"{S}',),
    "a password with brackets": (f"--password={{a}}{S}",),
    "a passphrase of words": (f"--passphrase=a b {S}",),
    "several keys in one argument": (f"--api-key=a {S}",),
    "a variable of words": ("--env", f"DB_PASSWORD=a b {S}"),
    "a variable of words, one argument": (f"--env=DB_PASSWORD=a b=c {S}",),
    "a header of words": ("-H", f"X-Api-Key: a {S}"),
    "a header of words, no blank": ("--header", f"X-Vault-Token:a {S}"),
    "a header of words, one argument": (f"--header=X-Goog-Api-Key: a, {S}",),
    "a header of words, glued": (f"-HX-Api-Key: a {S}",),
    "a header of words, glued authorization": (f"-HAuthorization: a {S}",),
    "a header of words in a script": ("sh", "-c", f"curl -H 'X-Api-Key: a {S}' http://h"),
    "a header, split": ("-H", "X-Auth-Token:", S),
    "a digest": ("-H", f'Authorization: Digest username="me", realm="x", response="{S}"'),
    "a cookie with quotes": ("-H", f'Cookie: a="b c"; session={S}'),
    "an ampersand in a script": ("sh", "-c", f"vllm serve x --password=a&{S}"),
    "a password of words in a script": ("sh", "-c", f'vllm serve x --password "a {S}" --port 1'),
    "a password of words in a title": (f"vllm serve --password a {S} --port 1",),
    "YAML of lines": ("--config", f"port: 5\napi_key: a b {S}\nhost: x"),
    "YAML of a block": ("--config", f"port: 5\npassword: |\n  {S}\n  c2VjcmV0{S}=\nhost: x"),
    "YAML with quoted keys": ("--config", f'{{"password": a {S}, "port": 5}}'),
    "JSON in a text": ("--config", f'{{"dsn": "user=u password=a {S}", "port": 5}}'),
    "an equals sign and no value": ("--password=", S),
    # accounts
    "a URL's password with a slash": (f"postgres://u:pa/{S}@host/db",),
    "a URL's password with a slash, of an option": (f"--db=mongodb+srv://u:a/{S}@h1,h2/db",),
    "a URL's password of digits and a slash": (f"redis://u:1234/{S}@host:6379/0",),
    "a URL's password with slash and at sign": (f"https://u:p@a/{S}@host/x",),
    "a second URL": (f"http://h:8000/x,amqp://u:a/{S}@mq//",),
    "no scheme and a slash": (f"me:a/{S}@registry:5000",),
    "no scheme and two at signs": (f"me:p@{S}@registry:5000",),
    "curl -u, glued": ("curl", f"-ubob:{S}"),
    "curl -U, glued": (f"-Ubob:a {S}",),
    "curl -u in a script": ("sh", "-c", f"curl -ubob:{S} http://h"),
    "--user with a percent sign": ("--user", f"me%{S}"),
    "--user=, with an at sign": (f"--user=me:a@{S}",),
    "--user=, words": (f"--user=me:a {S}",),
    "--user=, long": (f"--user=me:{'a' * 300}{S}",),
    "--user in JSON, long": ("--config", json.dumps({"user": f"me:{'a' * 300}{S}", "x": 1})),
    "JSON in JSON with a quote in it": ("--config", json.dumps({"inner": json.dumps({"password": f'a"{S}'})})),
    # the options of what stands beside engines
    "redis --requirepass": ("--requirepass", S),
    "redis --requirepass=": (f"--requirepass={S}",),
    "redis --masterauth": ("--masterauth", S),
    "redis.conf": (f"requirepass {S}",),
    "redis requirepass": ("redis-server", "requirepass", S),
    "REDISCLI_AUTH": (f"REDISCLI_AUTH={S}",),
    "redis-cli -a": ("redis-cli", "-h", "cache", "-a", S),
    "redis-cli -a in a script": ("sh", "-c", f"redis-cli -a {S} ping; vllm serve x"),
    "mysql -p": ("/usr/bin/mysql", "-h", "db", f"-p{S}"),
    "mysql -p in a script": ("sh", "-c", f"mysqldump -p'a {S}' x | gzip"),
    "MYSQL_PWD": (f"MYSQL_PWD={S}",),
    "mongosh -p": ("mongosh", "-u", "me", "-p", S),
    "sshpass": ("sshpass", "-p", S, "ssh", "h"),
    "ldapsearch": ("ldapsearch", "-x", "-w", S),
    "docker login": ("docker", "login", "-u", "me", "-p", S, "registry"),
    "curl -b": ("curl", "-b", f"session={S}"),
    "openssl": ("openssl", "enc", "-pass", f"pass:{S}"),
    "netrc": (f"machine h login me password {S}",),
    "aws configure": ("aws", "configure", "set", "aws_secret_access_key", S),
    "azure SAS": (f"SharedAccessSignature=sr=h&sig={S}&se=1",),
    "ADO": (f"Server=h;User Id=me;Password=a b;{S};Database=x",),
    "JAAS": ("--sasl-jaas-config", f'PlainLoginModule required username="me" password="{S}";'),
    "libpq": (f"host=h user=me password=a,{S} port=5",),
    "--tls-key-password": ("--tls-key-password", S),
    "--keystore-pass": (f"-Djavax.net.ssl.keyStorePassword={S}",),
    "--storepass": ("--storepass", S),
    "--bind-pw": ("--bind-pw", S),
    "--seed-phrase": ("--seed-phrase", f"a b {S}"),
    "--webhook": ("--webhook-url", f"https://h/api/{S}"),
    "a private key": ("--key-data", f"-----BEGIN PRIVATE KEY-----\n{S}\n-----END PRIVATE KEY-----"),
    "a private key that has no end": (f"-----BEGIN OPENSSH PRIVATE KEY-----\n{S}",),
    # shapes, with nothing before them
    "letters and digits": (R,),
    "letters and digits of an option": ("--extra", R),
    "letters and digits in a URL": (f"https://hooks.slack.com/services/T0/B0/{R}",),
    "a web token": (JWT,),
    "hexadecimal": ("9f86d081884c7d659a2feaa0c55ad015",),
    "Hugging Face": (f"hf_{R}",),
    "OpenAI": (f"sk-proj-{R}",),
    "GitHub": (f"ghp_{R}",),
    "AWS": ("AKIAIOSFODNN7EXAMPLE",),
    "Slack": (f"xoxb-1234-{R}",),
    "Google": ("AIzaSyA1234567890abcdefghijklmnopqrstuvw",),
    "Groq": (f"gsk_{R}",),
    "behind an underscore": (f"x_{JWT}",),
}
PARTS = (S, R, "9f86d081", "AKIAIOSF", "AIzaSyA1", JWT[:20], JWT[-20:], "12345")


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_secret_is_not_shown(name: str) -> None:
    shown = "\0".join(hide_secrets(("vllm", "serve", *PLANTED[name])))
    assert not [part for part in PARTS if part in shown], shown
    assert HIDDEN in shown


@pytest.mark.parametrize("name", [name for name in PLANTED if len(PLANTED[name]) == 1])
def test_nor_in_a_text(name: str) -> None:
    """Of text that is no command line some shapes are left, since /sys and the paths of cgroups are full of them."""
    (word,) = PLANTED[name]
    if name.startswith(("letters", "hexadecimal")) or name in ("no scheme and a slash", "curl -U, glued"):
        return
    shown = hide_secrets_in(f"{word}\n" if "\n" in word else f"{word} x")
    assert not [part for part in PARTS if part in shown], shown


PLAIN = (
    *("vllm", "serve", "/models/Qwen2.5-VL-72B-Instruct-FP8-dynamic", "--tensor-parallel-size", "8", "--port", "8000"),
    *("--model=/home/me/.cache/huggingface/hub/models--a/snapshots/0123456789abcdef0123456789abcdef01234567",),
    *("--revision", "0123456789abcdef0123456789abcdef01234567", "--tokenizer", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"),
    *("--max-num-batched-tokens", "8192", "--pad-token", "0", "--num-speculative-tokens", "5", "--trust-remote-code"),
    *("--kv-cache-dtype", "fp8_e5m2", "--served-model-name", "DeepSeekR1DistillQwen32B", "--load-format", "safetensors"),
    *("--ssl-keyfile", "/etc/k.pem", "--ssl-key-file", "/etc/k.pem", "--api-key-file", "/etc/keys"),
    *("--compilation-config", '{"level": 3, "cudagraph_capture_sizes": [1, 2, 4]}', "--override-kv", "a.b=int:7"),
    *("--hf-repo", "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF", "-m", "qwen2.5-coder-7b-instruct-q4_k_m.gguf"),
    *("--user", "1000:1000", "--otlp-traces-endpoint", "http://otel:4317/v1/traces", "--ctx-size", "131072", "-ngl", "99"),
    *("--speculative-config", '{"method": "eagle", "num_speculative_tokens": 3, "model": "/models/x"}', "--host", "0.0.0.0"),
    *("-ot", r"blk\.(1|2)\.ffn_.*_exps\.=CPU", "--rope-scaling", "yarn", "--chat-template-file", "/x/template.jinja"),
    *(
        "module.sig_enforce=1",
        "iommu.passthrough=1",
        "rd.luks.uuid=luks-1",
        "--enable-auto-tool-choice",
        "--auth-mode",
        "none",
    ),
)


def test_what_an_audit_asks_for_stays() -> None:
    assert hide_secrets(PLAIN) == PLAIN


@pytest.mark.parametrize(
    "words",
    [
        "llama-server -m x.gguf -b 2048 -ub 512 -a alias -p prompt --api-key-file /etc/keys --keep 5 --host h:1",
        "llama-server --override-kv tokenizer.ggml.eos_token_id=int:2 --override-kv tokenizer.ggml.add_bos_token=bool:false",
        "vllm serve --allow-credentials /models/x -tp 8 -pp 2 --return-tokens-as-token-ids org/x",
        "vllm serve x --tokenizer-mode auto --long-prefill-token-threshold 512 --max-num-seqs 4 --hf-overrides {}",
        "vllm serve s3://bucket/model@v1 --model-loader-extra-config {} --download-dir /x/y@z",
        "sglang --speculative-token-map org/FR-Spec/freq_32768.pt --dist-init-addr node7:5000 --tool-call-parser qwen25",
        "trtllm-serve x --max_num_tokens 8192 --kv_cache_free_gpu_memory_fraction 0.9",
        "ollama run hf.co/org/model:Q4_K_M",
        "run oci://registry:5000/org/model@sha256:ab http://h:8000/v1@rev",
        "run git+https://github.com/a/b@main hf:Qwen/Qwen3@main",
        "tritonserver --model-repository=/models --grpc-port=8001 --model-control-mode=explicit",
        "python3 -u -m vllm.entrypoints.openai.api_server --stop-token-ids 1,2 --seed 5 --bypass x --hotkey y --sort-key z",
        "docker run -p 8080:80 --user 1000:1000 -u 1000:1000 -u0:0 image",
        "zip -r x.zip y ; vllm serve -P z",
        "vllm serve x --top-k 5 --top-p 0.9 --max-num-batched-tok 8k --speculative-tok 5 --stop-tokens 1,2 --seed 7",
        "vllm serve x --skip-tok org/y --trust-remote-code org/x --api-server-count 4 --allowed-headers x --author me",
        "llama-server --cache-type-k q8_0 --cache-type-v q8_0 -ctk f16 --timeout-sec 5 --pooling-type cls -tp 8",
        "vllm serve org/secret-model -tp 8 --max-num-batched-tokens 16k --pin-memory x --access-log /x/y --task generate",
        "sglang serve x --page-size 64 --tokenizer-path /models/t --tp-size 8 --speculative-eagle-topk 4 --pp-size 2",
        "run /models/a%20b \\x2d /a%2Fb ghcr.io/org/img:v1@sha256:ab /mnt/a//b",
    ],
)
def test_ordinary_command_lines_stay_readable(words: str) -> None:
    argv = tuple(words.split())
    assert hide_secrets(argv) == argv


@pytest.mark.parametrize(
    "text",
    [
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice",
        "12:cpuset,cpu:/system.slice/user@0.service\n1:name=systemd:/x@y",
        "net.ipv4.tcp_syncookies = 1\nkernel.keys.root_maxkeys = 1000000",
        "mitigations=off spec_store_bypass_disable=on module.sig_enforce=1 iommu.passthrough=1 quiet",
        "token_limit: 5, max_token: 7",
        "a\\x2db\\x2duuid.device /dev/disk/by\\x2did %p|%i",
        "echo 1 > /sys/kernel/mm/ksm/run | tee /sys/x",
    ],
)
def test_text_of_the_kernel_stays(text: str) -> None:
    assert hide_secrets_in(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"host=h password=a {S} port=5", "host=h password=*** port=5"),
        (f"Server=h;Password=a;b {S};User Id=me", "Server=h;Password=***;User Id=me"),
        (f"https://h/x?a=1&sig=a&{S}&b=2", "https://h/x?a=1&sig=***&b=2"),
        (f"vllm serve --api-key a {S} --port 80", "vllm serve --api-key *** --port 80"),
        (f'env PASSWORD="a {S}" vllm serve x', 'env PASSWORD="***" vllm serve x'),
        (f"postgres://u:a/b@{S}@host:5432/db", "postgres://***@host:5432/db"),
        (f"https://{S}@github.com/a/b@main", "https://***@github.com/a/b@main"),
        (f"mysqldump -p'a {S}' --all | mysql -h b -p{S} x", "mysqldump -p*** *** --all | mysql -h b -p*** x"),
        (f"port: 5\nkey-password: |\n  a\n  {S}=\nhost: x", "port: 5\nkey-password: ***\nhost: x"),
    ],
)
def test_what_stands_beside_a_secret_stays(text: str, shown: str) -> None:
    assert hide_secrets_in(text) == shown


def test_hiding_twice_is_hiding_once() -> None:
    for words in PLANTED.values():
        once = hide_secrets(words)
        assert hide_secrets(once) == once


def test_most_random_tokens_are_known_by_their_shape() -> None:
    dice = random.Random(9)
    for letters in (string.ascii_letters + string.digits, string.ascii_lowercase + string.digits, "0123456789abcdef"):
        tokens = ["".join(dice.choices(letters, k=36)) for _ in range(200)]
        hidden = sum(1 for token in tokens if hide_secrets((token,)) == (HIDDEN,))
        assert hidden > 180, (letters, hidden)


def test_a_word_is_shown_to_a_bound() -> None:
    (shown,) = hide_secrets(("z" * 120_000,))
    assert len(shown) == WORD_MOST + 1
