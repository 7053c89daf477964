// What the package `ollama` is asked to do; prints what came of it as JSON. Arguments: the gateway's address.
import { Ollama } from "ollama";

const client = new Ollama({ host: process.argv[2] });
const model = "auto";
const messages = [{ role: "user", content: "What's 2+2?" }];
const told = {};

async function all(parts) {
  const found = [];
  for await (const part of await parts) found.push(part);
  return found;
}

told.version = await client.version();
told.chat = await client.chat({ model, messages });
told.stream = await all(client.chat({ model, messages, stream: true }));
told.tools = await client.chat({
  model,
  messages: [{ role: "user", content: "How is the weather in Oslo?" }],
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "the weather in a city",
        parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      },
    },
  ],
});
told.generate = await client.generate({ model, prompt: "What's 2+2?" });
told.generated = await all(client.generate({ model, prompt: "What's 2+2?", stream: true }));
told.embed = await client.embed({ model, input: ["one", "two"] });
told.list = (await client.list()).models.map((one) => one.name);
told.show = await client.show({ model });
told.ps = (await client.ps()).models.map((one) => one.name);
try {
  await client.chat({ model: "no-such-model", messages });
} catch (error) {
  told.error = { kind: error.name, status: error.status_code, message: error.message };
}
console.log(JSON.stringify(told));
