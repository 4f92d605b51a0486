"use strict";
(() => {
  const LOST_MS = 700; // shown as lost within a second: the page looks five times a second
  const STOP_TRIES_MS = 3000;
  const UPRIGHT_RAD = 0.2;
  const token = new URLSearchParams(location.search).get("token") || "";
  const $ = (id) => document.getElementById(id);
  const text = (id, value) => { const e = $(id); if (e.textContent !== value) e.textContent = value; };

  let run = {}, plant = null, points = [], historyS = 10;
  let now = null, heardAt = performance.now(), ended = false, stopping = false, sureUntil = 0;

  // ---- what comes in -------------------------------------------------------------------------------------------
  const source = new EventSource(`/events?token=${encodeURIComponent(token)}`);
  source.addEventListener("about", (event) => {
    const about = JSON.parse(event.data);
    run = about.run; plant = run.plant || null; points = about.points; historyS = about.history_s;
    describe();
  });
  source.onmessage = (event) => {
    now = JSON.parse(event.data);
    heardAt = performance.now();
    merge(now.points);
    if (now.ended) { ended = true; source.close(); }
    show();
  };

  function merge(fresh) {
    if (!fresh.length) return;
    // The newest point may have been sent before: it still grew.
    while (points.length && points[points.length - 1][0] >= fresh[0][0]) points.pop();
    points.push(...fresh);
    const oldest = fresh[fresh.length - 1][0] - historyS;
    let drop = 0;
    while (drop < points.length && points[drop][0] < oldest) drop++;
    if (drop) points.splice(0, drop);
  }

  // ---- numbers -------------------------------------------------------------------------------------------------
  const known = (value) => value !== null && value !== undefined;
  const fixed = (value, digits) => (known(value) ? value.toFixed(digits).replace("-", "\u2212") : "?");
  const micro = (value) => (known(value) ? value.toFixed(0) : "-");
  const unitOf = (name) => (/\[(.*)\]/.exec(name || "") || ["", ""])[1].replace("^2", "\u00b2");

  function describe() {
    const axis = plant ? plant.axis_name : "position", unit = plant ? plant.axis_unit : "";
    text("axis-name", axis.replace(/ \[.*/, ""));
    text("strip-position-name", plant ? axis : "position of the axis");
    text("strip-action-name", plant ? `applied: ${plant.action_name.replace("^2", "\u00b2")}` : "applied action");
    const limit = actionLimit();
    text("action-low", limit ? `\u2212${limit}` : "");
    text("action-high", limit ? `+${limit} ${plant ? unitOf(plant.action_name) : ""}` : "");
    for (const id of ["mode", "clock", "backend", "port"]) text(id, run[id] || "-");
    text("board", run.board ? `${run.board} (${String(run.variant || "").toLowerCase()})` : "-");
    text("period", run.period_us ? `${run.period_us / 1000} ms` : "-");
    text("policy", (run.policy_digest || "-").slice(0, 12));
    $("policy").title = run.policy_digest || "";
    if (unit) $("picture").setAttribute("aria-label", plant.title);
  }

  function actionLimit() {
    const limit = run.acceleration_limit || (plant && plant.action_limit);
    return limit ? Math.round(limit * 100) / 100 : 0;
  }

  function show() {
    document.body.classList.remove("waiting");
    document.body.classList.toggle("ended", ended);
    const state = ended ? "ENDED" : now.state;
    text("state", state);
    $("state").dataset.state = state;
    document.title = `${state} - pendulum: live`;
    text("fault", now.fault ? `fault ${now.fault}` : "");
    const last = now.events[now.events.length - 1];
    text("message", ended ? farewell() : stopping && now.state === "RUN" ? "stop asked for" : last ? said(last) : "waiting for the device");
    text("device-state", now.device_state || "-");
    if (known(now.tick)) {
      const unit = plant ? plant.axis_unit : "";
      text("angle", `${fixed(now.angle_rad, 3)} rad`);
      text("position", `${fixed(now.position, 3)} ${unit}`);
      text("rod-speed", `${fixed(now.rod_speed_rad_s, 1)} rad/s`);
      text("action", `${fixed(now.action, 1)} ${plant ? unitOf(plant.action_name) : ""}`);
      text("tick", String(now.tick));
      text("age", known(now.action_age_us) ? (now.action_age_us / 1000).toFixed(1) : "-");
      bar(now.action);
    }
    $("limited").classList.toggle("on", Boolean(now.limited));
    $("held").classList.toggle("on", Boolean(now.held));
    for (const row of ["last_second", "since_start"]) {
      const values = now.latency[row], cells = $(row).querySelectorAll("td");
      [micro(values.p50), micro(values.p99), micro(values.max), String(values.n), values.duration_s.toFixed(0)]
        .forEach((value, index) => { cells[index].textContent = value; });
    }
    const counts = now.counts;
    count("crc_errors", counts.crc_errors);
    count("lost_frames", counts.lost);
    count("misses", counts.unanswered + counts.stale);
    count("refused", counts.refused);
    count("log_dropped", counts.log_dropped);
    text("not_shown", String(counts.not_shown));
    events(now.events);
    buttons();
    look();
    draw();
  }

  const said = (event) => (event.kind === "state" ? event.text : `${event.kind}: ${event.text}`);

  function count(id, value) {
    text(id, String(value));
    $(id).classList.toggle("on", value > 0);
  }

  function events(list) {
    const shown = list.map(said).reverse();
    const element = $("events");
    if (element.dataset.shown === shown.join("\n")) return;
    element.dataset.shown = shown.join("\n");
    element.replaceChildren(...shown.map((line) => { const li = document.createElement("li"); li.textContent = line; return li; }));
  }

  function farewell() {
    const result = now.result;
    if (!result) return "the bridge is gone without a word: the device's watchdog brakes; look at the cart before you touch it";
    const stop = result.stop;
    let braked = "nobody confirmed that it was braked: look at the cart before you touch it";
    if (stop && stop.confirmed) braked = `braked: the device is in state ${stop.state}`;
    else if (!result.armed) braked = "nothing was armed";
    return `the run has ended: ${result.text}; ${braked}`;
  }

  // ---- lost or not ---------------------------------------------------------------------------------------------
  function look() {
    const silent = performance.now() - heardAt;
    const stale = now && known(now.age_s) ? now.age_s * 1000 : 0;
    let words = "";
    if (!ended && silent > LOST_MS) words = `No connection to the bridge for ${(silent / 1000).toFixed(1)} s: what is below is old.`;
    else if (!ended && stale > LOST_MS) words = `The bridge has had nothing from the device for ${(stale / 1000).toFixed(1)} s: what is below is old.`;
    text("lost", words);
    document.body.classList.toggle("lost-now", words !== "");
  }
  setInterval(look, 150);

  // ---- stop and arm --------------------------------------------------------------------------------------------
  const post = (path) => fetch(path, { method: "POST", headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });

  async function stop() {
    if (ended) return;
    const until = performance.now() + STOP_TRIES_MS;
    stopping = true;
    buttons();
    while (!ended) {
      try {
        if ((await post("/stop")).ok) return;
      } catch (error) { /* no connection: once more */ }
      if (performance.now() > until) {
        stopping = false;
        buttons();
        text("stop", "STOP NOT DELIVERED: use the emergency stop");
        return;
      }
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  function arm() {
    if (performance.now() > sureUntil) {
      sureUntil = performance.now() + 3000;
      setTimeout(buttons, 3050);
    } else {
      sureUntil = 0;
      post("/arm").catch(() => look());
    }
    $("arm").blur();
    buttons();
  }

  function buttons() {
    const stopButton = $("stop"), armButton = $("arm");
    stopButton.classList.toggle("sent", stopping && !ended);
    stopButton.classList.toggle("over", ended);
    const words = ended ? "ENDED" : stopping ? "STOPPING" : "STOP";
    if (stopButton.firstChild.textContent.trim() !== words) {
      stopButton.replaceChildren(document.createTextNode(`${words} `));
      if (words === "STOP") { const hint = document.createElement("small"); hint.textContent = "space or Esc"; stopButton.append(hint); }
    }
    const sure = performance.now() < sureUntil;
    armButton.hidden = ended || !(now && now.awaiting_arm);
    armButton.classList.toggle("sure", sure);
    armButton.textContent = sure ? "ARM: sure?" : "ARM";
  }

  $("stop").addEventListener("pointerdown", stop); // on touch, not on release
  $("stop").addEventListener("click", (event) => { if (event.detail === 0) stop(); }); // without a pointer: a screen reader
  $("arm").addEventListener("click", arm);
  // Space never presses a button that has the focus: here it only stops.
  for (const kind of ["keydown", "keyup"]) {
    document.addEventListener(kind, (event) => {
      if (event.code !== "Space" && event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      if (kind === "keydown" && !event.repeat) stop();
    }, true);
  }

  // ---- pictures ------------------------------------------------------------------------------------------------
  let colours = {};
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["ink", "dim", "line", "grid", "rod", "cart", "action", "upright", "soft", "red", "card"]) colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
  readColours();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); draw(); });
  addEventListener("resize", () => draw());

  function surface(id) {
    const canvas = $(id), ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, 'Liberation Sans', sans-serif";
    return { pen, width, height };
  }

  function line(pen, colour, thickness, ...corners) {
    pen.strokeStyle = colour;
    pen.lineWidth = thickness;
    pen.lineCap = "round";
    pen.beginPath();
    corners.forEach(([x, y], index) => (index ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
  }

  function disc(pen, colour, x, y, radius) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }

  function draw() {
    if (!now) return;
    const { pen, width, height } = surface("picture");
    if (plant && known(now.angle_rad) && known(now.position)) {
      if (plant.arm_m > 0) drawArm(pen, width, height);
      else drawCart(pen, width, height);
    } else {
      pen.fillStyle = colours.dim;
      pen.textAlign = "center";
      pen.fillText(run.board && !plant ? "no picture of this plant: its size is not known here" : "no observation yet", width / 2, height / 2);
      pen.textAlign = "left";
    }
    strips();
  }

  function drawRod(pen, x, y, pixels) {
    const upright = Math.abs(now.angle_rad) < UPRIGHT_RAD;
    const tip = [x + plant.rod_m * pixels * Math.sin(now.angle_rad), y - plant.rod_m * pixels * Math.cos(now.angle_rad)];
    line(pen, upright ? colours.upright : colours.rod, Math.max(4, 0.016 * pixels), [x, y], tip);
    disc(pen, upright ? colours.upright : colours.rod, tip[0], tip[1], Math.max(6, 0.022 * pixels));
    disc(pen, colours.ink, x, y, 3);
  }

  function drawCart(pen, width, height) {
    const half = plant.axis_limit * 1.07 + plant.rod_m; // a cart at the very end and its rod are still seen
    const pixels = Math.min(width / (2 * half), (height - 34) / (2.25 * plant.rod_m));
    const middle = width / 2, y = (height - 18) / 2, at = (metres) => middle + metres * pixels;
    const cart = { width: 0.11 * pixels, height: 0.056 * pixels };
    line(pen, colours.line, Math.max(3, 0.016 * pixels), [at(-half), y], [at(half), y]);
    for (const side of [-1, 1]) {
      line(pen, colours.red, 3, [at(side * plant.axis_limit), y - 16], [at(side * plant.axis_limit), y + 16]);
      pen.setLineDash([3, 4]);
      line(pen, colours.soft, 1.5, [at(side * plant.axis_soft_limit), y - 24], [at(side * plant.axis_soft_limit), y + 24]);
      pen.setLineDash([]);
    }
    pen.fillStyle = colours.dim;
    pen.textAlign = "center";
    for (const mark of [-plant.axis_limit, 0, plant.axis_limit]) {
      const label = `${fixed(mark, 2)} m`, room = pen.measureText(label).width / 2;
      pen.fillText(label, Math.min(width - room, Math.max(room, at(mark))), height - 3);
    }
    for (let metres = -Math.floor(half * 10) / 10; metres <= half; metres += 0.1) line(pen, colours.line, 1, [at(metres), height - 20], [at(metres), height - 16]);
    pen.textAlign = "left";
    const x = at(now.position);
    pen.fillStyle = colours.cart;
    pen.fillRect(x - cart.width / 2, y - cart.height / 2, cart.width, cart.height);
    drawRod(pen, x, y, pixels);
  }

  function drawArm(pen, width, height) {
    const reach = Math.max(plant.rod_m, plant.arm_m) * 1.15;
    const pixels = Math.min(width / (4 * reach), (height - 20) / (2 * reach));
    const y = (height - 16) / 2, left = width * 0.27, right = width * 0.73;
    pen.fillStyle = colours.dim;
    pen.textAlign = "center";
    pen.fillText("arm, from above", left, height - 3);
    pen.fillText("rod, along the arm", right, height - 3);
    pen.textAlign = "left";
    const radius = plant.arm_m * pixels, turn = (angle) => [left + radius * Math.sin(angle), y - radius * Math.cos(angle)];
    pen.strokeStyle = colours.line;
    pen.lineWidth = 3;
    pen.beginPath();
    pen.arc(left, y, radius, -plant.axis_limit - Math.PI / 2, plant.axis_limit - Math.PI / 2);
    pen.stroke();
    for (const side of [-1, 1]) {
      disc(pen, colours.red, ...turn(side * plant.axis_limit), 4);
      disc(pen, colours.soft, ...turn(side * plant.axis_soft_limit), 3);
    }
    line(pen, colours.cart, Math.max(4, 0.012 * pixels), [left, y], turn(now.position));
    disc(pen, colours.ink, left, y, 4);
    drawRod(pen, right, y, pixels);
  }

  function bar(action) {
    const limit = actionLimit(), fill = $("action-fill");
    if (!limit || !known(action)) { fill.style.width = "0"; return; }
    const share = Math.max(-1, Math.min(1, action / limit)) * 50;
    fill.style.left = `${share < 0 ? 50 + share : 50}%`;
    fill.style.width = `${Math.abs(share)}%`;
  }

  function strips() {
    const axisLimit = plant ? plant.axis_limit : reach(2), limit = actionLimit() || reach(4);
    const soft = plant ? [-plant.axis_soft_limit, plant.axis_soft_limit] : [];
    strip("strip-angle", Math.PI, [[-Math.PI, "\u2212\u03c0"], [0, "0"], [Math.PI, "\u03c0"]], [], (pen, x, y) => {
      pen.fillStyle = colours.upright;
      pen.globalAlpha = 0.15;
      pen.fillRect(x(-historyS), y(UPRIGHT_RAD), x(0) - x(-historyS), y(-UPRIGHT_RAD) - y(UPRIGHT_RAD));
      pen.globalAlpha = 1;
      trace(pen, x, y, 1, colours.rod, Math.PI);
    });
    strip("strip-position", axisLimit, marks(axisLimit), soft, (pen, x, y) => trace(pen, x, y, 2, colours.cart, Infinity));
    strip("strip-action", limit, marks(limit), [], (pen, x, y) => {
      trace(pen, x, y, 3, colours.action, Infinity);
      trace(pen, x, y, 4, colours.action, Infinity);
    });
  }

  const marks = (limit) => [[-limit, fixed(-limit, limit < 10 ? 2 : 0)], [0, "0"], [limit, fixed(limit, limit < 10 ? 2 : 0)]];
  const reach = (column) => Math.max(1e-3, ...points.map((point) => Math.abs(point[column] || 0)));

  function strip(id, limit, labels, soft, paint) {
    const { pen, width, height } = surface(id);
    const left = 38, right = width - 4, top = 9, bottom = height - 15;
    const x = (seconds) => right + (seconds / historyS) * (right - left);
    const y = (value) => (top + bottom) / 2 - (value / limit) * ((bottom - top) / 2);
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const [value, label] of labels) {
      line(pen, colours.grid, 1, [left, y(value)], [right, y(value)]);
      pen.fillStyle = colours.dim;
      pen.fillText(label, left - 5, y(value));
    }
    pen.textAlign = "center";
    for (let seconds = -historyS; seconds <= 0; seconds += 2) {
      line(pen, colours.grid, 1, [x(seconds), top], [x(seconds), bottom]);
      pen.fillStyle = colours.dim;
      if (seconds > -historyS && seconds < 0) pen.fillText(`${fixed(seconds, 0)} s`, x(seconds), height - 6);
    }
    pen.textBaseline = "alphabetic";
    pen.textAlign = "left";
    for (const value of soft) {
      pen.setLineDash([3, 4]);
      line(pen, colours.soft, 1, [left, y(value)], [right, y(value)]);
      pen.setLineDash([]);
    }
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, right - left, height);
    pen.clip();
    paint(pen, x, y);
    pen.restore();
  }

  /** One column of the points; a value that is not known, a hole in time or a jump of `wrap` is a hole in the line. */
  function trace(pen, x, y, column, colour, wrap) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1.4;
    pen.lineJoin = "round";
    pen.beginPath();
    let before = null;
    for (const point of points) {
      if (!known(point[column])) { before = null; continue; }
      const seconds = point[0] - now.time_s;
      const joined = before && point[0] - before[0] < 0.25 && Math.abs(point[column] - before[column]) < wrap;
      if (joined) pen.lineTo(x(seconds), y(point[column]));
      else pen.moveTo(x(seconds), y(point[column]));
      before = point;
    }
    pen.stroke();
  }
})();
