-- What the front reads of a request's body: the model, and the parameters that no engine may ignore in silence.
--
-- It looks at the members of the outer object and of a few inner ones, skips every other value by its brackets, and leaves
-- the rest of the grammar to the engine. The tables of rules before this text are rendered from catalog/protocol.toml.
-- Source of the calls: the Lua API of HAProxy 3.0.

local DEPTH = 100  -- brackets inside each other; a JSON schema of twenty levels takes forty
local SHOWN = 128  -- bytes of a client's text in an answer
local MEMBERS = 256  -- of an object that is read here; the longest list of parameters has a third of that
local ELEMENTS = 1024  -- of an array that is read here, which is the list of tools

local KINDS = {
  ["{"] = "object", ["["] = "array", ['"'] = "string",
  t = "boolean", f = "boolean", n = "null", ["-"] = "number",
}
for digit = 0, 9 do
  KINDS[tostring(digit)] = "number"
end
local LITERALS = { ["true"] = true, ["false"] = true, ["null"] = true }

-- Position behind the string that begins at `first`; nil where it does not end.
local function skip_string(body, first)
  local at = first + 1
  while true do
    local found = body:find('["\\]', at)
    if not found then
      return nil
    end
    if body:byte(found) == 34 then
      return found + 1
    end
    at = found + 2
  end
end

-- Position behind the value that begins at `first`; nil and a reason where there is none.
local function skip_value(body, first)
  local kind = KINDS[body:sub(first, first)]
  if kind == "string" then
    return skip_string(body, first)
  end
  if kind == "object" or kind == "array" then
    local depth, at = 0, first
    while true do
      at = body:find('["{}%[%]]', at)
      if not at then
        return nil
      end
      local sign = body:byte(at)
      if sign == 34 then
        at = skip_string(body, at)
        if not at then
          return nil
        end
      else
        if sign == 123 or sign == 91 then
          depth = depth + 1
          if depth > DEPTH then
            return nil, "json_too_deep"
          end
        else
          depth = depth - 1
        end
        at = at + 1
        if depth == 0 then
          return at
        end
      end
    end
  end
  if not kind then
    return nil
  end
  local last = select(2, body:find("^[%w%+%-%.]+", first))
  if kind ~= "number" and not LITERALS[body:sub(first, last)] then
    return nil
  end
  return last + 1
end

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

-- The text of a string with its quotes; nil where an escape is wrong.
local function decode(quoted)
  local text = quoted:sub(2, -2)
  if not text:find("\\", 1, true) then
    return text
  end
  local good = true
  local function character(code)
    if code == 0 or (code >= 0xD800 and code < 0xE000) then
      good = false
      return ""
    end
    return utf8.char(code)
  end
  -- A pair of surrogates first; one alone is wrong.
  text = text:gsub("\\\\", "\0")
  text = text:gsub("\\u([dD][89abAB]%x%x)\\u([dD][c-fC-F]%x%x)", function(high, low)
    return utf8.char(0x10000 + ((tonumber(high, 16) - 0xD800) << 10) + tonumber(low, 16) - 0xDC00)
  end)
  text = text:gsub("\\u(%x%x%x%x)", function(digits)
    return character(tonumber(digits, 16))
  end)
  text = text:gsub("\\(.)", function(sign)
    return ESCAPES[sign] or sign
  end)
  text = text:gsub("%z", "\\")
  return good and text or nil
end

-- Members of the object that begins at `first`: name -> {kind, first, last}, and the position behind it. Otherwise nil, a
-- code and, for a name that stands twice, the name.
local function members(body, first)
  local found, count = {}, 0
  local at = body:find("%S", first + 1)
  if at and body:sub(at, at) == "}" then
    return found, at + 1
  end
  while at do
    if body:byte(at) ~= 34 then
      return nil, "invalid_json"
    end
    local after = skip_string(body, at)
    local name = after and decode(body:sub(at, after - 1))
    at = after and body:match("^%s*:%s*()", after)
    if not name or not at then
      return nil, "invalid_json"
    end
    if found[name] then
      return nil, "duplicate_parameter", name
    end
    local behind, reason = skip_value(body, at)
    if not behind then
      return nil, reason or "invalid_json"
    end
    count = count + 1
    if count > MEMBERS then
      return nil, "too_many_parameters"
    end
    found[name] = { kind = KINDS[body:sub(at, at)], first = at, last = behind - 1 }
    local sign
    sign, at = body:match("^%s*([,}])%s*()", behind)
    if not sign then
      return nil, "invalid_json"
    end
    if sign == "}" then
      return found, at
    end
  end
  return nil, "invalid_json"
end

-- Elements of the array that begins at `first`, each {kind, first, last}; nil and a code where one is no value or there are too
-- many. The array was skipped once, so its brackets are right.
local function elements(body, first)
  local found = {}
  local at = body:match("^%s*()", first + 1)
  while at and body:sub(at, at) ~= "]" do
    local behind = skip_value(body, at)
    if not behind then
      return nil, "invalid_json"
    end
    if #found == ELEMENTS then
      return nil, "invalid_value"
    end
    found[#found + 1] = { kind = KINDS[body:sub(at, at)], first = at, last = behind - 1 }
    at = body:match("^%s*,?%s*()", behind)
  end
  return found
end

local function raw(body, value)
  return body:sub(value.first, value.last)
end

local function refuse(txn, code, param, message)
  txn:set_var("txn.refused_code", code)
  if param then
    txn:set_var("txn.refused_param", param:sub(1, SHOWN))
  end
  txn:set_var("txn.refused_message", message)
end

local MESSAGES = {
  invalid_utf8 = "The body is not UTF-8, or has a NUL byte.",
  invalid_json = "The body is not a JSON object.",
  too_many_parameters = "An object of the body has more than " .. MEMBERS .. " members.",
  json_too_deep = "The body has more than " .. DEPTH .. " brackets inside each other.",
}

-- The members of an object, and the position behind it; nil once the request is refused. param: the parameter that the object
-- is or stands in, nil for the body itself.
local function read_members(txn, body, first, param)
  local found, behind, name = members(body, first)
  if found then
    return found, behind
  end
  if behind == "duplicate_parameter" then
    return refuse(txn, behind, param or name, "The parameter " .. name:sub(1, SHOWN) .. " stands twice.")
  end
  return refuse(txn, behind, param, MESSAGES[behind])
end

-- The members of the body's object; nil once the request is refused.
local function read(txn, body)
  if body:find("\0", 1, true) or not utf8.len(body) then
    return refuse(txn, "invalid_utf8", nil, MESSAGES.invalid_utf8)
  end
  local first = body:match("^%s*(){")
  if not first then
    return refuse(txn, "invalid_json", nil, MESSAGES.invalid_json)
  end
  local found, behind = read_members(txn, body, first)
  if not found then
    return nil
  end
  if body:match("^%s*()", behind) <= #body then
    return refuse(txn, "invalid_json", nil, MESSAGES.invalid_json)
  end
  return found
end

local function is_of_kind(body, value, kinds)
  if kinds[value.kind] then
    return true
  end
  return value.kind == "number" and kinds.integer and raw(body, value):find("^%-?%d+$") ~= nil
end

local check_members

-- Refuses what a rule of this parameter does not take; true where it did.
local function check_value(txn, body, name, value, rule)
  if value.kind == "null" then
    return false
  end
  if rule.refused then
    refuse(txn, "unsupported_parameter", name, "The parameter " .. name .. " is not supported: " .. rule.refused)
    return true
  end
  if not is_of_kind(body, value, rule.kinds) then
    refuse(txn, "invalid_type", name, "The parameter " .. name .. " must be " .. rule.wanted .. ".")
    return true
  end
  if rule.values and not rule.values[raw(body, value)] then
    local message = "This value of the parameter " .. name .. " is not supported: " .. rule.because
    refuse(txn, "unsupported_value", name, message)
    return true
  end
  if rule.members and value.kind == "object" then
    local inner = read_members(txn, body, value.first, name)
    if not inner or check_members(txn, body, name .. ".", inner, rule.members) then
      return true
    end
  end
  if rule.items and value.kind == "array" then
    local list, code = elements(body, value.first)
    if not list then
      local many = "The parameter " .. name .. " has more than " .. ELEMENTS .. " elements."
      refuse(txn, code, name, MESSAGES[code] or many)
      return true
    end
    for _, element in ipairs(list) do
      if element.kind == "object" then
        local inner = read_members(txn, body, element.first, name)
        if not inner or check_members(txn, body, name .. "[].", inner, rule.items) then
          return true
        end
      end
    end
  end
  return false
end

-- The members in the order of the body; what has no rule is left alone. True where one is refused.
function check_members(txn, body, prefix, found, rules)
  local names = {}
  for name in pairs(found) do
    if rules[name] then
      names[#names + 1] = name
    end
  end
  table.sort(names, function(a, b)
    return found[a].first < found[b].first
  end)
  for _, name in ipairs(names) do
    if check_value(txn, body, prefix .. name, found[name], rules[name]) then
      return true
    end
  end
  return false
end

local function text_of(body, value)
  return value and value.kind == "string" and decode(raw(body, value)) or nil
end

-- The name of a tool, in the three forms of the protocol: {"function":{"name"}}, and {"name"} twice.
local function tool_name(body, object)
  local inner = object.kind == "object" and members(body, object.first)
  if not inner then
    return nil
  end
  if inner["function"] and inner["function"].kind == "object" then
    inner = members(body, inner["function"].first) or {}
  end
  return text_of(body, inner.name)
end

-- A choice of one tool by its name: the engine knows only "call some tool", so it gets that and the named tool alone. Each
-- change is as long as what it replaces (blanks fill it up), so the length of the body stands.
local function name_tool(txn, body, found, forced)
  local choice = found.tool_choice
  if not choice or choice.kind ~= "object" then
    return
  end
  local kind = text_of(body, (members(body, choice.first) or {}).type)
  if kind ~= "function" and kind ~= "tool" then
    if not (kind and forced["plain_" .. kind]) then
      local message = "The parameter tool_choice is supported as a string, or with the name of one function."
      refuse(txn, "unsupported_value", "tool_choice", message)
    end
    return
  end
  local wanted = tool_name(body, choice)
  local tools = found.tools and found.tools.kind == "array" and elements(body, found.tools.first) or {}
  local chosen
  for _, tool in ipairs(tools) do
    if wanted and tool_name(body, tool) == wanted then
      chosen = tool
    end
  end
  if not chosen then
    return refuse(txn, "invalid_value", "tool_choice", "The parameter tool_choice names a tool that is not in tools.")
  end
  if choice.last - choice.first + 1 < #forced.text then
    return refuse(txn, "invalid_value", "tool_choice", "The parameter tool_choice has no name of a tool.")
  end
  txn:set_var("txn.edits", table.concat({
    choice.first - 1, choice.last - choice.first + 1, found.tools.first - 1, found.tools.last - found.tools.first + 1,
    chosen.first - 1, chosen.last - chosen.first + 1,
  }, " "))
  txn:set_var("txn.forced", forced.text)
end

-- The longest answer that the body asks for, in tokens, under any name; a negative number asks for one without an end.
local LENGTHS = { "max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict" }
local function longest_answer(body, found)
  local longest
  for _, name in ipairs(LENGTHS) do
    local value = found[name]
    if value and value.kind == "number" then
      local number = tonumber(raw(body, value))
      number = number and number >= 0 and number < 2 ^ 53 and math.ceil(number) or math.maxinteger
      longest = math.max(longest or 0, number)
    end
  end
  return longest
end

-- http-request lua.inspect: sets txn.model and txn.asked, or the three variables of a refusal; and, as the other action does,
-- txn.inspected once it has come to its end. An action that fails, for want of memory or time, leaves no other trace.
core.register_action("inspect", { "http-req" }, function(txn)
  local body = txn.f:req_body() or ""
  local found = read(txn, body)
  if found then
    local longest = longest_answer(body, found)
    if longest then
      txn:set_var("txn.asked", longest)
    end
    local model = found.model
    if model and model.kind ~= "string" then
      refuse(txn, "invalid_type", "model", "The parameter model must be a string.")
    elseif model then
      local name = decode(raw(body, model))
      if name then
        txn:set_var("txn.model", name)
      else
        refuse(txn, "invalid_json", "model", MESSAGES.invalid_json)
      end
    end
  end
  txn:set_var("txn.inspected", true)
end, 0)

local function check(txn, rules)
  local body = txn.f:req_body() or ""
  local found = read(txn, body)
  if not found then
    return
  end
  if check_members(txn, body, "", found, rules.parameters) then
    return
  end
  local unknown
  for name, value in pairs(found) do
    if not rules.parameters[name] and (not unknown or value.first < found[unknown].first) then
      unknown = name
    end
  end
  if unknown then
    local shown = unknown:sub(1, SHOWN)
    return refuse(txn, "unknown_parameter", unknown, "The parameter " .. shown .. " is not known for this path.")
  end
  if rules.forced then
    name_tool(txn, body, found, rules.forced)
  end
end

-- http-request lua.check ENGINE: refuses what this engine would ignore, by the rules of the request's path.
core.register_action("check", { "http-req" }, function(txn, engine)
  local rules = (RULES[engine] or {})[txn.f:path()]
  if rules then
    check(txn, rules)
  end
  txn:set_var("txn.checked", true)
end, 1)

-- filter lua.rewrite: applies what name_tool found. The whole body is in the buffer (http-request wait-for-body).
local rewrite = { id = "rewrite", flags = filter.FLT_CFG_FL_HTX }
rewrite.__index = rewrite

function rewrite:new()
  return setmetatable({}, rewrite)
end

function rewrite:http_headers(txn, message)
  if not message.channel:is_resp() and txn:get_var("txn.edits") then
    filter.register_data_filter(self, message.channel)
  end
end

function rewrite:http_payload(txn, message)
  local edits = txn:get_var("txn.edits")
  if not edits or message.channel:is_resp() then
    return
  end
  txn:unset_var("txn.edits")
  local place = {}
  for number in edits:gmatch("%d+") do
    place[#place + 1] = math.tointeger(tonumber(number))
  end
  local forced = txn:get_var("txn.forced")
  local chosen = message:body(place[5], place[6])
  message:set(forced .. (" "):rep(place[2] - #forced), place[1], place[2])
  message:set("[" .. chosen .. (" "):rep(place[4] - place[6] - 2) .. "]", place[3], place[4])
end

core.register_filter("rewrite", rewrite, function(class)
  return class
end)

core.register_fetches("haproxy_version", function()
  return core.get_info().Version
end)
