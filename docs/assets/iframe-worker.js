/* The search of the site runs in a worker. A page that is opened from a folder may start none, so this file runs the script of the
   worker in a hidden frame, with the three names that such a script uses: postMessage, addEventListener, importScripts. */
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inside = frame.contentWindow
      this.waiting = []
      const send = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.inside.postMessage = send
      this.inside.importScripts = (...urls) => Promise.all(urls.map(each => this.load(each)))
      this.load(url).then(() => {
        this.ready = true
        this.waiting.splice(0).forEach(data => this.postMessage(data))
      })
    }

    load(url) {
      const page = this.inside.document
      const script = Object.assign(page.createElement("script"), { src: new URL(url, location).href })
      return new Promise((resolve, reject) => {
        script.onload = resolve
        script.onerror = reject
        page.body.append(script)
      })
    }

    postMessage(data) {
      if (this.ready) this.inside.dispatchEvent(new MessageEvent("message", { data }))
      else this.waiting.push(data)
    }

    terminate() {
      this.inside.frameElement.remove()
    }
  }
  window.Worker = window.IFrameWorker
}
