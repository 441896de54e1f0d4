// SPDX-License-Identifier: Apache-2.0
// A chat with the server that this page came from. Answers are shown as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const talk = [];
let running = null;

function headers() {
    const h = { "Content-Type": "application/json" };
    if ($("key").value) h.Authorization = "Bearer " + $("key").value;
    return h;
}

function addTurn(role, text) {
    const turn = document.createElement("div");
    turn.className = "turn " + role;
    turn.textContent = text;
    $("talk").append(turn);
    turn.scrollIntoView({ block: "end" });
    return turn;
}

// Tokens that were drafted ahead are dimmed; neighbours of one kind share an element.
function addTokens(turn, tokens) {
    for (const token of tokens) {
        const kind = token.drafted ? "drafted" : "own";
        let last = turn.lastChild;
        if (!last || last.className !== kind) {
            last = document.createElement("span");
            last.className = kind;
            turn.append(last);
        }
        last.textContent += token.text;
    }
    turn.scrollIntoView({ block: "end" });
}

function showFigures(n, drafted, seconds) {
    const pace = seconds > 0 && n > 1 ? ((n - 1) / seconds).toFixed(1) + " tokens/s, " : "";
    $("figures").textContent = pace + n + " tokens, " + drafted + " of them drafted (dimmed)";
}

// The data of server-sent events, one after the other.
async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        rest += value;
        let end;
        while ((end = rest.indexOf("\n\n")) >= 0) {
            const event = rest.slice(0, end);
            rest = rest.slice(end + 2);
            if (event.startsWith("data: ")) yield event.slice(6);
        }
    }
}

async function failure(response) {
    const text = await response.text();
    try {
        return JSON.parse(text).error.message;
    } catch {
        return "HTTP " + response.status;
    }
}

async function answer(turn) {
    const response = await fetch("v1/chat/completions", {
        method: "POST",
        headers: headers(),
        signal: running.signal,
        body: JSON.stringify({
            messages: talk,
            temperature: Number($("temperature").value),
            stream: true,
            stream_options: { include_tokens: true },
        }),
    });
    if (!response.ok) throw new Error(await failure(response));
    let n = 0, drafted = 0, first = 0;
    for await (const data of events(response.body)) {
        if (data === "[DONE]") break;
        const event = JSON.parse(data);
        if (event.error) throw new Error(event.error.message);
        const choice = event.choices[0];
        if (!choice || !choice.tokens) continue;
        first = first || performance.now();
        n += choice.tokens.length;
        drafted += choice.tokens.filter((token) => token.drafted).length;
        addTokens(turn, choice.tokens);
        showFigures(n, drafted, (performance.now() - first) / 1000);
    }
}

function setRunning(controller) {
    running = controller;
    $("send").hidden = running !== null;
    $("stop").hidden = running === null;
}

async function ask(event) {
    event.preventDefault();
    const question = $("question").value.trim();
    if (!question || running) return;
    $("question").value = "";
    talk.push({ role: "user", content: question });
    addTurn("user", question);
    const turn = addTurn("assistant", "");
    setRunning(new AbortController());
    try {
        await answer(turn);
    } catch (error) {
        if (error.name !== "AbortError") addTurn("error", error.message);
    }
    if (turn.textContent) talk.push({ role: "assistant", content: turn.textContent });
    else talk.pop();
    setRunning(null);
}

async function showModel() {
    const response = await fetch("v1/models", { headers: headers() });
    if (response.ok) $("model").textContent = (await response.json()).data[0].id;
}

$("ask").addEventListener("submit", ask);
$("stop").addEventListener("click", () => running && running.abort());
$("clear").addEventListener("click", () => {
    if (running) running.abort();
    talk.length = 0;
    $("talk").replaceChildren();
});
$("key").addEventListener("change", showModel);
$("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) ask(event);
});
showModel();
