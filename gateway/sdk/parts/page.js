// What the browser tells a page about itself; where there is no page, nothing ever happens.

export class Page {
  #heard = [];

  // `hooks`: offline(), online(), visible(), and leaving() when the page may never run again.
  constructor(hooks) {
    const { document } = globalThis;
    this.#on(globalThis, 'offline', hooks.offline);
    this.#on(globalThis, 'online', hooks.online);
    // Back from the browser's own cache of pages, or thawed.
    this.#on(globalThis, 'pageshow', (event) => event.persisted && hooks.visible());
    this.#on(document, 'resume', hooks.visible);
    this.#on(globalThis, 'pagehide', hooks.leaving);
    this.#on(document, 'visibilitychange', () => {
      if (document.visibilityState === 'visible') hooks.visible();
      else hooks.leaving();
    });
  }

  get offline() {
    return globalThis.navigator?.onLine === false;
  }

  close() {
    for (const [target, event, hook] of this.#heard) target.removeEventListener(event, hook);
    this.#heard = [];
  }

  #on(target, event, hook) {
    if (!target?.addEventListener) return;
    target.addEventListener(event, hook);
    this.#heard.push([target, event, hook]);
  }
}
