#!/usr/bin/env bash
# Ask a running server everything once and print each answer.
#
#   tests/smoke.sh [URL]          default: http://localhost:8000; with keys: LLM_API_KEY=... tests/smoke.sh
#
# Ends with status 1 if any answer was not a success.
set -u
url=${1:-http://localhost:8000}
headers=(-H "Content-Type: application/json")
[[ -n ${LLM_API_KEY:-} ]] && headers+=(-H "Authorization: Bearer $LLM_API_KEY")
failures=0

ask() { # TITLE PATH [BODY]
  echo "=== $1"
  local body=()
  (($# > 2)) && body=(-d "$3")
  curl -sSN --fail-with-body "${headers[@]}" "${body[@]}" "$url$2" || failures=$((failures + 1))
  echo
}

ask "welcome" /
ask "health" /health
ask "model" /model/info
ask "models" /v1/models
ask "version" /version
ask "chat" /chat '{
  "messages": [{"role": "user", "content": "你好，请简单介绍一下你自己"}], "temperature": 0.7, "max_tokens": 200}'
ask "chat with a system prompt" /chat '{
  "messages": [
    {"role": "system", "content": "你是一个专业的AI助手"}, {"role": "user", "content": "解释一下什么是机器学习"}],
  "temperature": 0.5, "max_tokens": 300}'
ask "chat of several turns" /chat '{
  "messages": [
    {"role": "system", "content": "你是一个友好的助手"}, {"role": "user", "content": "我想学习编程"},
    {"role": "assistant", "content": "很好！你想学什么语言？"}, {"role": "user", "content": "Python"}],
  "temperature": 0.7, "max_tokens": 200}'
ask "chat, streamed" /chat '{"messages": [{"role": "user", "content": "你好"}], "stream": true}'
ask "prompt" / '{"prompt": "你好"}'
ask "prompt with history" / '{
  "prompt": "刚才我们再聊什么？",
  "history": [
    {"role": "user", "content": "今天星期几"}, {"role": "assistant", "content": "今天星期三"},
    {"role": "user", "content": "明天星期几？"}, {"role": "assistant", "content": "明天是星期四。"}]}'
ask "generate" /generate '{"prompt": "写一个Python函数计算阶乘", "temperature": 0.3, "max_tokens": 300}'
ask "generate from messages" /generate '{
  "messages": [
    {"role": "system", "content": "角色：專業的任務規劃機器人"},
    {"role": "user", "content": "將刀子和杯子移動到櫃檯。"}],
  "max_new_tokens": 256}'
ask "generate with a function" /generate_with_function '{
  "messages": [
    {"role": "system", "content": "接收一個任務，將其分解成多個步驟。"},
    {"role": "user", "content": "將書本放在側桌上。"}],
  "tools": [{
    "name": "decompose_task",
    "description": "將任務分解為子任務，並返回包含子任務列表的 JSON 對象。",
    "parameters": {
      "type": "object",
      "properties": {
        "tasks": {
          "type": "array",
          "items": {
            "type": "object",
            "properties": {
              "task": {"type": "string", "description": "子任務的名稱。"},
              "description": {"type": "string", "description": "子任務的描述。"}},
            "required": ["task", "description"]}}},
      "required": ["tasks"]}}],
  "max_new_tokens": 256}'
ask "batch" /batch '{"prompts": ["什么是AI？", "Python有什么特点？"], "temperature": 0.7, "max_tokens": 150}'
ask "batch, streamed" /batch '{"prompts": ["什么是深度学习？", "什么是神经网络？"], "stream": true}'
ask "OpenAI chat" /v1/chat/completions '{
  "model": "default-model", "messages": [{"role": "user", "content": "你好"}],
  "temperature": 0.7, "max_tokens": 2048, "stream": false}'
ask "OpenAI chat, streamed" /v1/chat/completions '{
  "messages": [{"role": "user", "content": "讲个故事"}], "stream": true,
  "stream_options": {"include_usage": true}}'
ask "OpenAI completion" /v1/completions '{"prompt": "Once upon a time", "max_tokens": 30, "temperature": 0}'
ask "tokenize" /tokenize '{"prompt": "你好"}'

((failures == 0)) && echo "=== all answered" || echo "=== $failures failed"
exit $((failures > 0))
