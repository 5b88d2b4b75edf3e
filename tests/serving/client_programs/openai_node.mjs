// OpenAI's library for Node: chat, a stream, a tool, errors. Prints what it got as JSON.
import OpenAI from "openai";

const [url, model, long] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const hello = [{ role: "user", content: "hello" }];
const tools = ["look", "wait"].map((name) => ({
  type: "function",
  function: {
    name,
    parameters: { type: "object", properties: { day: { type: "integer" } }, required: ["day"], additionalProperties: false },
  },
}));
const ask = (more) => client.chat.completions.create({ model, messages: hello, ...more });
const refused = async (more) => {
  try {
    await ask(more);
  } catch (error) {
    return [error.constructor.name, error.status, error.code];
  }
  return null;
};

let streamed = "";
for await (const piece of await ask({ stream: true })) {
  streamed += piece.choices[0]?.delta?.content ?? "";
}
const chosen = await ask({ tools, tool_choice: { type: "function", function: { name: "wait" } } });
const call = chosen.choices[0].message.tool_calls[0].function;
console.log(
  JSON.stringify({
    chat: (await ask({})).choices[0].message.content,
    stream: streamed,
    tool: [call.name, JSON.parse(call.arguments)],
    missing: await refused({ model: "nobody" }),
    overflow: await refused({ messages: [{ role: "user", content: long }] }),
  }),
);
