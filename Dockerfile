# docker build -t wm-pipeline . && docker run -v "$PWD/data:/project/data" wm-pipeline
FROM python:3.11-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /project
COPY . .
RUN make .venv/installed
CMD ["make", "run"]
