"""A model that says what its script says: "Hello there" to a message, and a call of a tool where it is offered one.

Its weights are written by hand. What it says next depends on the last token by a table, and on whether the prompt has tools,
and a tool's result: attention is uniform, so the mean of the prompt's tokens tells. Where a grammar constrains it, it takes
the shortest way to the end: it closes strings, objects and arrays as soon as it may, and chooses true before false. So its
answers are the same on each processor and at each temperature, and its tool calls are short.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

GREETING = "Hello there"
_WIDTH = 64
_BEGIN, _TOOLS, _RESULT, _END = "assistant\n", "<tools>", "<tool_response>", "<|end|>"
_GREETING, _CALL = ("Hello", "\u0120there"), "<tool_call>\u010a"
_FOLLOWS = {_BEGIN: _GREETING[0], _GREETING[0]: _GREETING[1]}
# After the end of all; what closes comes first.
_RANKED = '"}]<,:10{[tf'
_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
# Components of the hidden state: always 1; the prompt's share of tool lists and results; the same where an answer begins.
_ONE, _HAS_TOOLS, _HAS_RESULT, _CALLS, _TALKS = 0, 60, 61, 62, 63

TEMPLATE = """\
{%- if shout %}LOUD{% endif %}
{%- if tools %}<|im_start|>system
# Tools
You may call functions. Their signatures are within <tools></tools> tags:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
Call one with a JSON object within <tool_call></tool_call> tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == "assistant" and message.tool_calls %}<|im_start|>assistant
{{ message.content or "" }}
{%- for tool_call in message.tool_calls %}
{%- if tool_call.function %}{% set tool_call = tool_call.function %}{% endif %}
<tool_call>
{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% elif message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""As models of the Hermes and Qwen families have it."""


def write_scripted_model(path: Path, *, context: int = 8192) -> Path:
    """The model as a GGUF file of 200 KB."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
    tokens = [*symbols, *_GREETING, _CALL, _BEGIN, _TOOLS, _RESULT, _END]
    count, place = len(tokens), {token: index for index, token in enumerate(tokens)}
    classes = {token: index + 1 for index, token in enumerate(_FOLLOWS)}

    embedding = np.zeros((count, _WIDTH))
    embedding[:, _ONE] = 1.0
    for token, component in (*classes.items(), (_TOOLS, _HAS_TOOLS), (_RESULT, _HAS_RESULT)):
        embedding[place[token], component] = 1.0
    square = {name: np.zeros((_WIDTH, _WIDTH)) for name in _MATRICES}
    for component, told in ((_HAS_TOOLS, _CALLS), (_HAS_RESULT, _TALKS)):
        square["attn_v"][component, component] = 1.0
        square["attn_output"][component, component] = 50.0  # one token of some hundred
        square["ffn_gate"][component, classes[_BEGIN]] = 1.0
        square["ffn_up"][component, component] = 1.0
        square["ffn_down"][told, component] = 100.0
    output = np.zeros((count, _WIDTH))
    ranked = [_END, *_RANKED, *(chr(97 + index) for index in range(26))]
    for rank, token in enumerate(dict.fromkeys(ranked)):
        output[place[token], _ONE] = 4.0 * (len(ranked) - rank)
    for token, component in classes.items():
        output[place[_FOLLOWS[token]], component] = 400.0
    output[place[_CALL], _CALLS] = 16.0
    output[place[_GREETING[0]], _TALKS] = 64.0

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("scripted")
    writer.add_context_length(context)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // 4)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    kinds = gguf.TokenType
    writer.add_token_types([kinds.NORMAL] * (count - 4) + [kinds.USER_DEFINED] * 3 + [kinds.CONTROL])
    writer.add_token_merges(["H e"])
    writer.add_bos_token_id(count - 1)
    writer.add_eos_token_id(count - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", embedding.astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, dtype=np.float32))
    writer.add_tensor("output.weight", output.astype(np.float16))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(_WIDTH, dtype=np.float32))
    for name, weights in square.items():
        writer.add_tensor(f"blk.0.{name}.weight", weights.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
