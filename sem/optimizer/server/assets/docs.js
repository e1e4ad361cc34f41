"use strict";
const made = (tag, text, ...inside) => {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  node.append(...inside);
  return node;
};

let known = {};
const named = (schema) => (schema && schema.$ref ? known[schema.$ref.split("/").pop()] : schema) || {};

function type(schema) {
  const one = named(schema);
  if (one.anyOf) return one.anyOf.map(type).join(" or ");
  return one.type === "array" ? `list of ${type(one.items)}` : one.type || "any";
}

function bounds(one) {
  const names = { minimum: "from", maximum: "to", minLength: "characters from", maxLength: "to",
    minItems: "items from", maxItems: "to" };
  return Object.entries(names).filter(([key]) => key in one).map(([key, word]) => `${word} ${one[key]}`).join(" ");
}

function fields(title, schema) {
  const one = named(schema), rows = Object.entries(one.properties || {}).map(([name, field]) => {
    const needed = (one.required || []).includes(name) ? "required" : "default" in field ? `default ${JSON.stringify(field.default)}` : "";
    const said = [needed, bounds(field.items || field), bounds(field), field.description].filter(Boolean);
    return made("tr", "", made("td", "", made("code", name)), made("td", type(field)), made("td", [...new Set(said)].join("; ")));
  });
  return rows.length ? made("table", "", made("caption", title), made("tbody", "", ...rows)) : made("p", `${title}: none`);
}

function route(path, method, about) {
  const sent = about.requestBody?.content?.["application/json"]?.schema;
  const back = about.responses?.["200"]?.content?.["application/json"]?.schema;
  const faults = Object.entries(about.responses || {}).filter(([code]) => code !== "200");
  const section = made("section", "", made("h2", "", made("code", `${method.toUpperCase()} ${path}`)), made("p", about.description || ""));
  section.className = "route";
  if (sent) section.append(fields("Request", sent));
  if (back) section.append(fields("Reply", back));
  if (faults.length) section.append(made("table", "", made("caption", "Refusals, each with detail, reason and request_id"),
    made("tbody", "", ...faults.map(([code, one]) => made("tr", "", made("td", code), made("td", one.description))))));
  return section;
}

async function show() {
  try {
    const reply = await fetch("/openapi.json");
    if (!reply.ok) throw new Error((await reply.json()).detail);
    const found = await reply.json();
    known = found.components?.schemas || {};
    const sections = Object.entries(found.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, about]) => route(path, method, about)));
    document.getElementById("routes").replaceChildren(...sections);
  } catch (error) { document.getElementById("routes").replaceChildren(made("p", `Cannot be read: ${error.message}`)); }
}
show();
