require "json"
require "net/http"

RUNS = "#{ENV.fetch("HUB_URL")}/api/v1/pipelines/runs"

def ask(kind, path = "", body = nil, headers = {})
  uri = URI(RUNS + path)
  request = kind.new(uri, { "Authorization" => "Bearer #{ENV.fetch("HUB_KEY")}" }.merge(headers))
  request.body = body if body
  answer = Net::HTTP.start(uri.host, uri.port) { |http| http.request(request) }
  answer.value # Raises for a status that is no success.
  JSON.parse(answer.body)
end

def launch
  headers = { "Content-Type" => "application/json", "Idempotency-Key" => "ruby-1" }
  ask(Net::HTTP::Post, "", JSON.generate(recipe_id: "endless"), headers)["run_id"]
end

run = launch
puts run, launch
text, after = +"", 0
until text.end_with?("\n")
  page = ask(Net::HTTP::Get, "/#{run}/logs?after=#{after}&wait=5")
  text << page["chunk"]
  after = page["offset"]
end
print text
puts ask(Net::HTTP::Post, "/#{run}/kill")["status"]
