// Requests to the server. An answer that is no success is thrown as an Error with the server's line.

const token = document.querySelector("meta[name=token]").content;

async function call(path, body, headers, signal) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", body, headers: { "X-Token": token, ...headers }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer; is ziggurat explore still running?");
  }
  if (answer.ok) return answer;
  throw new Error((await answer.json().catch(() => ({}))).error || "the server answers " + answer.status);
}

export async function ask(path, content = {}, signal) {
  return (await call(path, JSON.stringify(content), { "Content-Type": "application/json" }, signal)).json();
}

// A picture, {url, name, range}: the range of its values, or null. Whoever no longer shows it calls URL.revokeObjectURL.
export async function draw(path, content, signal) {
  const answer = await call(path, JSON.stringify(content), { "Content-Type": "application/json" }, signal);
  const name = decodeURIComponent(answer.headers.get("X-Name"));
  const range = answer.headers.get("X-Range");
  return { url: URL.createObjectURL(await answer.blob()), name, range: range && range.split(" ") };
}

export async function upload(file) {
  const headers = { "Content-Type": "application/octet-stream", "X-Name": encodeURIComponent(file.name) };
  return (await call("/images", file, headers)).json();
}
