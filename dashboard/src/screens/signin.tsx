import { useState } from 'preact/hooks';
import { Refused, signIn } from '../api';

/** The token is typed once; the browser keeps a cookie that no script can read. */
export function SignIn({ done }: { done: () => void }) {
  const [token, type] = useState('');
  const [error, fail] = useState('');
  const [busy, work] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    work(true);
    fail('');
    try {
      await signIn(token);
      type('');
      done();
    } catch (reason) {
      fail((reason as Refused).message);
    }
    work(false);
  };
  return (
    <main class="signin">
      <form onSubmit={submit}>
        <h1>Ringway</h1>
        <label class="field">Admin token
          <input type="password" autoComplete="current-password" spellcheck={false} value={token} required autofocus
            onInput={(event) => type(event.currentTarget.value)} />
        </label>
        {error ? <p class="trouble" role="alert">{error}</p> : null}
        <button type="submit" class="primary" disabled={busy || !token}>Sign in</button>
        <p class="quiet">The token of <code>[admin]</code> in the gateway's configuration. The session lasts 12 hours.</p>
      </form>
    </main>
  );
}
