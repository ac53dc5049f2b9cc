// Does it work for this key?
import { useEffect, useRef, useState } from 'preact/hooks';
import { call, open, refusal, useLoad } from '../api';
import { exact, rate, time } from '../format';
import { link } from '../route';
import type { Model, RowDetail, Session } from '../types';
import { Code, Facts, Panel } from '../ui';

type Api = 'chat' | 'messages' | 'responses';
const APIS: Record<Api, { name: string; path: string }> = {
  chat: { name: 'Chat completions', path: '/v1/chat/completions' },
  messages: { name: 'Messages', path: '/v1/messages' },
  responses: { name: 'Responses', path: '/v1/responses' },
};

interface Form { api: Api; model: string; system: string; prompt: string; most: string; stream: boolean }

function body({ api, model, system, prompt, most, stream }: Form): object {
  const limit = most ? Number(most) : undefined;
  const user = { role: 'user', content: prompt };
  if (api === 'responses') return { model, ...(system ? { instructions: system } : {}), input: prompt, ...(limit ? { max_output_tokens: limit } : {}), stream };
  if (api === 'messages') return { model, ...(system ? { system } : {}), messages: [user], max_tokens: limit ?? 1024, stream };
  return {
    model, messages: system ? [{ role: 'system', content: system }, user] : [user],
    ...(limit ? { max_tokens: limit } : {}), stream, ...(stream ? { stream_options: { include_usage: true } } : {}),
  };
}

/** The text and the token counts that one event, or a whole response, carries. */
function take(api: Api, value: any): { text?: string; input?: number; output?: number; error?: string } {
  if (value?.error) return { error: value.error.message ?? JSON.stringify(value.error) };
  const usage = value?.usage ?? value?.response?.usage ?? value?.message?.usage;
  const counts = usage ? { input: usage.prompt_tokens ?? usage.input_tokens, output: usage.completion_tokens ?? usage.output_tokens } : {};
  let text: string | undefined;
  if (api === 'chat') { const choice = value?.choices?.[0]; text = choice?.delta?.content ?? choice?.message?.content; }
  if (api === 'messages') text = value?.delta?.text ?? (Array.isArray(value?.content) ? value.content.map((part: any) => part.text ?? '').join('') : undefined);
  if (api === 'responses') {
    if (value?.type === 'response.output_text.delta') text = value.delta;
    else if (!value?.type) text = (value?.output ?? []).flatMap((item: any) => item.content ?? []).map((part: any) => part.text ?? '').join('');
  }
  return { text: text ?? undefined, ...counts };
}

interface Result {
  state: 'running' | 'done' | 'stopped' | 'failed'; text: string; status: number; id: string; error: string; began: number;
  first: number | null; end: number | null; input: number | null; output: number | null; headers: [string, string][];
}

export function Try({ session }: { session: Session }) {
  const models = useLoad<{ models: Model[] }>('/models');
  const [key, setKey] = useState('');
  const [form, set] = useState<Form>({ api: 'chat', model: '', system: '', prompt: 'Say something about rings.', most: '', stream: true });
  const [result, tell] = useState<Result | null>(null);
  const [seen, see] = useState<RowDetail | null>(null);
  const stop = useRef<AbortController | null>(null);
  const names = models.data?.models.map((model) => model.name) ?? [];
  const model = form.model || names[0] || '';
  const whole = { ...form, model };
  useEffect(() => () => stop.current?.abort(), []);

  const run = async (event: Event) => {
    event.preventDefault();
    const controller = new AbortController();
    stop.current = controller;
    see(null);
    const began = performance.now();
    let now: Result = { state: 'running', text: '', status: 0, id: '', error: '', began, first: null, end: null, input: null, output: null, headers: [] };
    const show = (part: Partial<Result>) => { now = { ...now, ...part }; tell(now); };
    show({});
    const feed = (value: unknown) => {
      const { text, input, output, error } = take(form.api, value);
      show({
        ...(text ? { text: now.text + text, first: now.first ?? performance.now() } : {}),
        ...(input !== undefined ? { input } : {}), ...(output !== undefined ? { output } : {}), ...(error ? { error } : {}),
      });
    };
    try {
      const response = await open('/try', {
        method: 'POST', signal: controller.signal, headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ key: key || undefined, path: APIS[form.api].path, body: body(whole) }),
      });
      show({ status: response.status, id: response.headers.get('x-request-id') ?? '', headers: [...response.headers].filter(([name]) => /^x-|retry-after/.test(name) && !/^x-(content|frame)/.test(name)) });
      if (!response.ok) {
        show({ state: 'failed', error: (await refusal(response)).message, end: performance.now() });
      } else if (!(response.headers.get('content-type') ?? '').includes('event-stream')) {
        feed(await response.json());
        show({ state: now.error ? 'failed' : 'done', end: performance.now() });
      } else {
        await events(response, feed);
        show({ state: now.error ? 'failed' : 'done', end: performance.now() });
      }
    } catch (reason) {
      const stopped = controller.signal.aborted;
      show({ state: stopped ? 'stopped' : 'failed', error: stopped ? '' : `the connection ended: ${(reason as Error).message}`, end: performance.now() });
    }
    if (now.id) {
      // The gateway's own record of it, once it has been settled.
      for (const pause of [250, 600, 1500]) {
        await new Promise((then) => setTimeout(then, pause));
        try { see(await call<RowDetail>(`/requests/${encodeURIComponent(now.id)}`)); break; } catch { /* not yet there */ }
      }
    }
  };
  const seconds = (from: number, to: number | null) => (to === null ? null : (to - from) / 1000);
  const busy = result?.state === 'running';
  return (
    <div class="try">
      <Panel title="Request">
        <form onSubmit={run}>
          {session.keys_required ? (
            <label class="field">API key
              <input type="password" value={key} autoComplete="off" spellcheck={false} placeholder="sk-rw-…" onInput={(event) => setKey(event.currentTarget.value.trim())} />
              <small class="quiet">Sent with this request only; this page keeps it until it is closed.</small>
            </label>
          ) : null}
          <div class="two">
            <label class="field">Model
              <select value={model} onChange={(event) => set({ ...form, model: event.currentTarget.value })}>
                {names.map((name) => <option key={name} value={name}>{name}</option>)}
              </select>
            </label>
            <label class="field">API
              <select value={form.api} onChange={(event) => set({ ...form, api: event.currentTarget.value as Api })}>
                {Object.entries(APIS).map(([id, { name }]) => <option key={id} value={id}>{name}</option>)}
              </select>
            </label>
          </div>
          <label class="field">System prompt<input value={form.system} placeholder="none" onInput={(event) => set({ ...form, system: event.currentTarget.value })} /></label>
          <label class="field">Prompt<textarea rows={5} required value={form.prompt} onInput={(event) => set({ ...form, prompt: event.currentTarget.value })}
            onKeyDown={(event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit(); }} /></label>
          <div class="two">
            <label class="field">Most output tokens<input inputMode="numeric" value={form.most} placeholder="the model's own" onInput={(event) => set({ ...form, most: event.currentTarget.value.replace(/\D/g, '') })} /></label>
            <label class="check"><input type="checkbox" checked={form.stream} onChange={() => set({ ...form, stream: !form.stream })} /> Stream</label>
          </div>
          <p class="row-of-buttons">
            <button type="submit" class="primary" disabled={busy || !model || (session.keys_required && !key)}>Send</button>
            {busy ? <button type="button" onClick={() => stop.current?.abort()}>Stop</button> : <span class="quiet">Ctrl-Enter sends</span>}
          </p>
        </form>
      </Panel>
      <Panel title="Response" aside={result ? <span class={`outcome ${result.state}`} role="status">{{ running: 'running', done: 'complete', stopped: 'stopped', failed: 'failed' }[result.state]}{result.status ? `, ${result.status}` : ''}</span> : null}>
        {!result ? <p class="empty">The response appears here as it comes.</p> : (
          <>
            {result.error ? <p class="trouble" role="alert">{result.error}</p> : null}
            <div class="output" aria-live="off">{result.text}{busy ? <span class="caret" aria-hidden="true" /> : null}</div>
            <Facts rows={[
              ['First token', time(seconds(result.began, result.first))],
              ['In all', time(seconds(result.began, result.end))],
              ['Tokens, in / out', `${exact(result.input)} / ${exact(result.output)}`],
              ['Output tokens per second', result.output && result.first && result.end && result.end > result.first ? rate(result.output / ((result.end - result.first) / 1000)) : '–'],
              ['Backend', seen?.backend ? <a href={link('backends', { open: seen.backend })}>{seen.backend}</a> : null],
              ['Gateway\'s own time', seen ? time(seen.overhead) : null],
              ['Request id', result.id ? <a href={link('requests', { open: seen ? String(seen.number) : result.id })}><code>{result.id}</code></a> : null],
            ]} />
            {seen?.explain ? <div class="explain"><p><b>{seen.explain.what}</b></p><p>{seen.explain.fix}</p></div> : null}
            {result.headers.length ? <details><summary>Headers</summary><Facts rows={result.headers} /></details> : null}
          </>
        )}
      </Panel>
      <Panel title="The same from a program" className="whole">
        <Programs url={session.client_url ?? 'http://127.0.0.1:8080'} form={whole} keyed={session.keys_required} />
      </Panel>
    </div>
  );
}

/** Reads the events of a stream as they come. */
async function events(response: Response, feed: (value: unknown) => void) {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let held = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    held += value;
    const parts = held.split(/\r?\n\r?\n/);
    held = parts.pop()!;
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim()).join('\n');
      if (!data || data === '[DONE]') continue;
      try { feed(JSON.parse(data)); } catch { /* a heartbeat, or another server's habit */ }
    }
  }
}

function Programs({ url, form, keyed }: { url: string; form: Form; keyed: boolean }) {
  const [language, choose] = useState<'curl' | 'python' | 'js'>('curl');
  const path = APIS[form.api].path;
  const text = JSON.stringify(body(form));
  const key = keyed ? '$RINGWAY_KEY' : 'none';
  const curl = `curl -N ${url}${path} \\\n${keyed ? `  -H "Authorization: Bearer ${key}" \\\n` : ''}  -H 'Content-Type: application/json' \\\n  -d '${text.replace(/'/g, `'\\''`)}'`;
  const pythonBody = JSON.stringify(body(form), null, 4).replace(/\btrue\b/g, 'True').replace(/\bfalse\b/g, 'False');
  const python = `import os, requests\n\nresponse = requests.post(\n    "${url}${path}",\n    headers={"Authorization": f"Bearer {os.environ['RINGWAY_KEY']}"},\n    json=${pythonBody.replace(/\n/g, '\n    ')},\n    stream=True,\n)\nfor line in response.iter_lines():\n    print(line.decode())`;
  const js = `const response = await fetch("${url}${path}", {\n  method: "POST",\n  headers: { Authorization: \`Bearer \${process.env.RINGWAY_KEY}\`, "Content-Type": "application/json" },\n  body: JSON.stringify(${JSON.stringify(body(form), null, 2).replace(/\n/g, '\n  ')}),\n});\nfor await (const part of response.body.pipeThrough(new TextDecoderStream())) process.stdout.write(part);`;
  return (
    <>
      <span class="segment" role="group" aria-label="Language">
        {([['curl', 'curl'], ['python', 'Python'], ['js', 'JavaScript']] as const).map(([id, name]) =>
          <button type="button" key={id} aria-pressed={language === id} onClick={() => choose(id)}>{name}</button>)}
      </span>
      <Code text={{ curl, python, js }[language]} />
    </>
  );
}
