// What the page shows. Everything that comes from somebody goes in as text.

const EVENTS_MAX = 100;

const find = (id) => document.getElementById(id);

function make(name, more = {}, ...children) {
  const element = document.createElement(name);
  const { dataset = {}, ...rest } = more;
  Object.assign(element, rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

export const title = (user) => user[0].toUpperCase() + user.slice(1);

export const clock = (ms) => new Date(ms).toLocaleTimeString([], { timeStyle: 'medium' });

function face(user) {
  return make('span', { className: 'face', dataset: { user }, ariaHidden: 'true' }, title(user)[0]);
}

// The page on which one chooses who to be.
export function showChoice(people) {
  document.title = 'Gateway demo';
  find('people-to-be').append(
    ...people.map((user) => make('li', {}, make('a', { href: `?user=${user}` }, face(user), title(user)))),
  );
  find('choose').hidden = false;
}

// The page of one person, talking to another.
export class View {
  #me;
  #other;
  #lines = new Map();
  #ended = false;

  constructor(me, other, people) {
    this.#me = me;
    this.#other = other;
    document.title = `${title(me)} · Gateway demo`;
    find('me').textContent = title(me);
    find('my-face').textContent = title(me)[0];
    find('my-face').dataset.user = me;
    find('other-window').textContent = `Open ${title(other)}’s window`;
    find('other-window').href = `?user=${other}&with=${me}`;
    find('text').placeholder = `Message ${title(other)}`;
    find('own-acts').textContent = `As ${title(me)}`;
    for (const act of ['kick', 'ban', 'unban']) find(act).textContent = `${title(act)} ${title(other)}`;
    find('ban').textContent += ' for a minute';
    for (const user of people.filter((each) => each !== me)) {
      const link = make('a', { href: `?user=${me}&with=${user}`, dataset: { user } }, title(user));
      if (user === other) link.ariaCurrent = 'page';
      find('people').append(link);
    }
    this.blocked(false);
    find('room').hidden = false;
  }

  // `state` as the SDK has it.
  state(state) {
    const words = { connecting: 'Connecting', live: 'Connected', waiting: 'Not connected, trying again' };
    find('state').textContent = words[state] ?? 'Not connected';
    find('state').dataset.state = state;
    const ended = (this.#ended = state === 'stopped');
    for (const id of ['text', 'block']) find(id).disabled = ended;
    find('composer').querySelector('button').disabled = ended;
    find('leave').textContent = ended ? 'Come back' : 'Go away';
    find('own-hint').textContent = ended
      ? `What ${title(this.#other)} writes meanwhile waits for ${title(this.#me)}.`
      : `Go away, let ${title(this.#other)} write, and come back: nothing is missing.`;
  }

  // Why it is over; null = it is not.
  notice(why) {
    const list = find('messages');
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 2;
    find('why').textContent = why ?? '';
    find('notice').hidden = why === null;
    // It takes room from the messages: who was reading the newest still is.
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  // Adds a line; returns a function that says what became of it.
  message({ mid, from, body, sentAt }, note = '') {
    const mine = from === this.#me;
    const text = make('p');
    const line = make('li', { className: 'message' }, text, make('small'));
    line.classList.toggle('mine', mine);
    find('messages').append(line);
    if (mid) this.#lines.set(mid, line);
    this.#body(line, body);
    const became = (kind, word, at) => {
      line.classList.remove('waiting', 'failed');
      if (kind) line.classList.add(kind);
      line.lastChild.textContent = [at && clock(at), word].filter(Boolean).join(' · ');
    };
    became(mid ? '' : 'waiting', mid ? note : 'on its way', sentAt);
    line.scrollIntoView({ block: 'nearest' });
    return (kind, word, at, as) => {
      if (as) this.#lines.set(as, line);
      became(kind, word, at);
    };
  }

  // A message was changed; null = recalled.
  changed(mid, body) {
    const line = this.#lines.get(mid);
    if (line) this.#body(line, body);
  }

  #body(line, body) {
    line.classList.toggle('gone', body === null);
    const text = body === null ? 'recalled' : typeof body === 'string' ? body : (body.text ?? JSON.stringify(body));
    line.firstChild.textContent = text;
  }

  typing(on) {
    find('typing').textContent = on ? `${title(this.#other)} is typing …` : '';
  }

  presence(user, online) {
    for (const link of find('people').querySelectorAll('a')) {
      if (link.dataset.user !== user) continue;
      link.dataset.online = online;
      link.title = online ? 'online' : 'offline';
    }
  }

  blocked(on) {
    find('block').textContent = `${on ? 'Unblock' : 'Block'} ${title(this.#other)}`;
    find('block').ariaPressed = on;
  }

  // One line of what happens, the newest first.
  event(text) {
    const now = Date.now();
    find('events').prepend(make('li', {}, make('time', { dateTime: new Date(now).toISOString() }, clock(now)), text));
    while (find('events').childElementCount > EVENTS_MAX) find('events').lastChild.remove();
  }

  // Calls `act` when a button is pressed; it rests meanwhile, and what fails becomes a line of what happens.
  button(id, act) {
    find(id).addEventListener('click', async () => {
      find(id).disabled = true;
      try {
        await act();
      } catch (error) {
        this.event(error.reason ?? error.message);
      } finally {
        find(id).disabled = this.#ended && id === 'block';
      }
    });
  }

  // Calls `send` with what is written, `typed` while it is being written.
  composer(send, typed) {
    find('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      const text = find('text').value.trim();
      find('text').value = '';
      if (text) send(text);
    });
    find('text').addEventListener('input', typed);
  }
}
