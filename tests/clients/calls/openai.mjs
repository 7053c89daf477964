// What the package `openai` is asked to do; prints what came of it as JSON. Arguments: the gateway's address.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const model = "auto";
const messages = [{ role: "user", content: "What's 2+2?" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "the weather in a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];
const weather = [{ role: "user", content: "How is the weather in Oslo?" }];
const told = {};

const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
told.chat = { ...data, header: response.headers.get("x-router-model") };

told.stream = [];
for await (const chunk of await client.chat.completions.create({
  model,
  messages,
  stream: true,
  stream_options: { include_usage: true },
})) {
  told.stream.push(chunk);
}

const asked = await client.chat.completions.create({ model, messages: weather, tools });
told.tools = asked.choices[0];
const result = { role: "tool", tool_call_id: asked.choices[0].message.tool_calls[0].id, content: "rain" };
told.after_tools = await client.chat.completions.create({
  model,
  messages: [...weather, asked.choices[0].message, result],
  tools,
});
const helper = client.chat.completions.stream({ model, messages: weather, tools });
told.streamed_tools = (await helper.finalChatCompletion()).choices[0];

told.embeddings = await client.embeddings.create({ model, input: ["one", "two"] });
told.models = [];
for await (const one of client.models.list()) told.models.push(one.id);
told.model = await client.models.retrieve("auto");

told.response = (await client.responses.create({ model, input: "What's 2+2?" })).output_text;
told.events = [];
for await (const event of await client.responses.create({ model, input: "What's 2+2?", stream: true })) {
  told.events.push(event.type);
}

try {
  await client.chat.completions.create({ model: "no-such-model", messages });
} catch (error) {
  told.error = { kind: error.constructor.name, status: error.status, message: error.message };
}
console.log(JSON.stringify(told));
